"""Predictions about implicit bias."""
