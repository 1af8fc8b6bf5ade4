"""Predictions about kernels."""
