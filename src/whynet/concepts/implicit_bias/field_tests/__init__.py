"""Claims on implicit bias, tried on a user's network."""
