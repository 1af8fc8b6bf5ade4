"""Claims about condensation."""
