"""Predictions about loss landscapes."""
