"""Claims about implicit bias."""
