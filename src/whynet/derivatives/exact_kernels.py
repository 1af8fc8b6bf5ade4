"""Kernels that can be differentiated twice, and surroundings that are put back afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def exact_kernels(*, onednn: bool = True) -> Iterator[None]:
    """Let PyTorch use only kernels that have second derivatives and forward mode.

    Inside, attention uses the math kernel (flash attention for the CPU has no double backward),
    the fast path of `nn.MultiheadAttention` is off, and oneDNN is off where asked (its float32
    LSTM has no forward mode). All flags are as before afterwards, also after a failure.

    Args:
        onednn: whether oneDNN may be used.

    Cost: attention needs memory quadratic in the sequence length inside.

    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(warnings.catch_warnings())
        # PyTorch's own: the first use of forward mode compiles decompositions by TorchScript
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        if not onednn:
            # mkldnn.flags() would also set what warns on machines without an Intel GPU
            before = torch.backends.mkldnn.enabled
            stack.callback(setattr, torch.backends.mkldnn, "enabled", before)
            setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010 - typed as a descriptor
        yield


@contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Make tensors created inside without a dtype be of `dtype`; None leaves the default alone."""
    before = torch.get_default_dtype()
    if dtype is None or dtype == before:
        yield
        return
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def kept_random_state(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Give random generators (CPU and the devices of `tensors`) their state back afterwards."""
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        yield
