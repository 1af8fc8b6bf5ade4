"""Robustness: what small changes of an input do to the answer."""
