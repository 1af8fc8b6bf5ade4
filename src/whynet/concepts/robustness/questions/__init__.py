"""Questions on robustness."""
