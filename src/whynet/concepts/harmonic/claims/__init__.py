"""Claims about frequencies."""
