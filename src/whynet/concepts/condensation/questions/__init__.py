"""Questions on condensation."""
