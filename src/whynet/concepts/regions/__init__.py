"""Regions: the cells on which a piecewise-linear network is affine."""
