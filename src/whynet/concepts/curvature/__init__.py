"""Curvature: the second derivatives of the loss, their spectrum and what it may be called."""
