"""Instruments of kernels."""
