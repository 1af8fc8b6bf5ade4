"""Instruments of condensation."""
