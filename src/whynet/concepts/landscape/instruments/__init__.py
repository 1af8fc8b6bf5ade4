"""Instruments of the loss landscape."""
