"""Frequencies: which parts of a target are learned first."""
