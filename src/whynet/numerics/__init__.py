"""Mathematics on tensors and arrays: one algorithm a file, no networks."""
