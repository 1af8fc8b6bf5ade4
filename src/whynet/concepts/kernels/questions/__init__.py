"""Questions on kernels."""
