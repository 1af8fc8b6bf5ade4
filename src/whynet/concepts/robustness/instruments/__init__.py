"""Instruments of robustness."""
