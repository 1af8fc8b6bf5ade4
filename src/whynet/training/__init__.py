"""Training: loops that are deterministic and leave the global state alone."""
