"""Predictions about frequencies."""
