"""Implicit bias: which of the many solutions training picks."""
