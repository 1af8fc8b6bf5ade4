"""Loading what a user names: networks, their weights, and the code behind a reference."""
