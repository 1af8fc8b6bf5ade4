"""Leaving the user's world as it was: global state restored, networks fingerprinted."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


def global_state() -> dict[str, object]:
    """Return the global state that measuring must not change, as comparable values."""
    return {
        "torch random state": _digest(torch.get_rng_state()),
        "numpy random state": hash(repr(np.random.get_state())),  # noqa: NPY002 - the global one
        "python random state": hash(random.getstate()),
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic warnings": torch.is_deterministic_algorithms_warn_only_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "math attention": torch.backends.cuda.math_sdp_enabled(),  # type: ignore[no-untyped-call]
        "flash attention": torch.backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
        "efficient attention": torch.backends.cuda.mem_efficient_sdp_enabled(),  # type: ignore[no-untyped-call]
        "attention fast path": torch.backends.mha.get_fastpath_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
    }


@contextmanager
def preserved() -> Iterator[None]:
    """Restore the random states and flags of torch, numpy and Python on the way out.

    Everything whynet does with a user's network happens inside this context, so that a failure
    half way leaves nothing behind either.
    """
    torch_state, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(),  # noqa: NPY002 - the legacy state is the global one
        random.getstate(),
    )
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    gradient_mode, threads = torch.is_grad_enabled(), torch.get_num_threads()
    precision, dtype = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    attention = (
        torch.backends.cuda.math_sdp_enabled(),  # type: ignore[no-untyped-call]
        torch.backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
        torch.backends.cuda.mem_efficient_sdp_enabled(),  # type: ignore[no-untyped-call]
    )
    anomaly, check_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    mkldnn, fast_path = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        np.random.set_state(numpy_state)  # noqa: NPY002 - the legacy state is the global one
        random.setstate(python_state)
        torch.set_grad_enabled(gradient_mode)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cuda.enable_math_sdp(attention[0])
        torch.backends.cuda.enable_flash_sdp(attention[1])
        torch.backends.cuda.enable_mem_efficient_sdp(attention[2])
        torch.autograd.set_detect_anomaly(anomaly, check_nan)
        torch.backends.mkldnn.enabled = mkldnn
        torch.backends.mha.set_fastpath_enabled(fast_path)


def fingerprint(module: nn.Module) -> dict[str, str]:
    """Hash everything of a network that measuring must not change.

    Returns:
        One entry for every parameter and buffer (content, dtype, shape, device), every gradient,
        and for the training flags, `requires_grad` flags and hooks of all submodules; equal
        dictionaries mean an untouched network.

    """
    prints: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        prints[f"parameter {name}"] = f"{_digest(parameter)} {parameter.requires_grad}"
        gradient = parameter.grad
        prints[f"gradient {name}"] = "none" if gradient is None else _digest(gradient)
    for name, buffer in module.named_buffers(remove_duplicate=False):
        prints[f"buffer {name}"] = _digest(buffer)
    for name, child in module.named_modules(remove_duplicate=False):
        hooks = [
            len(getattr(child, attribute, ()))
            for attribute in (
                "_forward_hooks",
                "_forward_pre_hooks",
                "_backward_hooks",
                "_backward_pre_hooks",
                "_state_dict_hooks",
            )
        ]
        prints[f"module {name}"] = f"{type(child).__qualname__} {child.training} {hooks}"
    return prints


def _digest(tensor: torch.Tensor) -> str:
    data = tensor.detach().to("cpu").contiguous()
    # Viewing as bytes hashes every dtype alike, NaN payloads included.
    content = data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b""
    head = f"{data.dtype} {tuple(data.shape)} {tensor.device}".encode()
    return hashlib.sha256(head + content).hexdigest()
