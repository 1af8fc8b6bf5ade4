"""Condensation: neurons of a layer that come to compute the same function."""
