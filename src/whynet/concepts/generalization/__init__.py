"""Generalization: what carries over to unseen data, and how sure the network is of it."""
