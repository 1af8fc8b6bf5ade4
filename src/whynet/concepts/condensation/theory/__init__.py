"""Theory of condensation."""
