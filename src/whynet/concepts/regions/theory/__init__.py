"""Predictions and bounds for the regions of piecewise-linear networks."""
