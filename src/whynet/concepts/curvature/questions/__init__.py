"""Puts measurements beside references for a user's network."""
