"""Claims on condensation."""
