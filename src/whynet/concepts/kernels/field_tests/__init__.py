"""Claims on kernels, tried on a user's network."""
