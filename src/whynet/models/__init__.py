"""Networks, their data and losses, and how they come in."""
