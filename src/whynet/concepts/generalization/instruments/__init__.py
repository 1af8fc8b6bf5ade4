"""Measures it on a subject."""
