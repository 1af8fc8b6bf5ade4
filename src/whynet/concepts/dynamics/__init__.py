"""Dynamics: what happens while a network is trained."""
