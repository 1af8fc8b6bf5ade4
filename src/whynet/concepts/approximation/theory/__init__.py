"""Networks constructed to equal a given function, with their known counts."""
