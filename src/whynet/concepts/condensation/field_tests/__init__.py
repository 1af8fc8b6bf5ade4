"""Claims on condensation, tried on a user's network."""
