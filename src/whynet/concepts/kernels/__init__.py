"""Kernels: what the gradients of a network say of the functions it can reach."""
