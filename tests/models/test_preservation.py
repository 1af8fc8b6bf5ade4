"""Fingerprints tell every change of a network; the global state is put back."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import nn

from whynet.models.preservation import fingerprint, global_state, preserved


def rename(module: nn.Module) -> None:
    module[2].weight = nn.Parameter(module[2].weight.detach().clone().add_(1e-7))


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "one value": lambda m: m[0].weight.data[0, 0].add_(1e-6),
    "sign of a zero": lambda m: m[1].running_mean.data.neg_(),
    "running statistic": lambda m: m[1].running_var.add_(1e-3),
    "gradient": lambda m: setattr(m[0].weight, "grad", torch.zeros_like(m[0].weight)),
    "flag": lambda m: m[0].weight.requires_grad_(False),
    "training mode": lambda m: m[1].train(),
    "forward hook": lambda m: m[0].register_forward_hook(lambda *a: None),
    "forward pre-hook": lambda m: m[0].register_forward_pre_hook(lambda *a: None),
    "backward hook": lambda m: m[0].register_full_backward_hook(lambda *a: None),
    "precision": lambda m: m[0].double(),
    "a new parameter": rename,
    "another layer": lambda m: m.__setitem__(2, nn.Tanh()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_shows(name: str) -> None:
    module = CASES["batch-norm"].build()
    before = fingerprint(module)
    assert fingerprint(module) == before
    if name == "a new parameter":
        module = CASES["relu-mlp"].build()
        before = fingerprint(module)
    CHANGES[name](module)
    assert fingerprint(module) != before


def test_tied_parameters_are_looked_at_under_each_name() -> None:
    prints = fingerprint(CASES["tied-weights"].build())
    assert prints["parameter first.weight"] == prints["parameter second.weight"]


STATES: dict[str, Callable[[], object]] = {
    "torch random state": lambda: torch.rand(1),
    "numpy random state": lambda: np.random.rand(),  # noqa: NPY002 - the legacy state is the global one
    "python random state": random.random,
    "gradient mode": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "deterministic warnings": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "mkldnn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "math attention": lambda: torch.backends.cuda.enable_math_sdp(False),
    "flash attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "efficient attention": lambda: torch.backends.cuda.enable_mem_efficient_sdp(False),
    "attention fast path": lambda: torch.backends.mha.set_fastpath_enabled(False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_changed_inside_shows_and_is_put_back(name: str) -> None:
    before = global_state()
    with pytest.raises(KeyError), preserved():
        STATES[name]()
        inside = global_state()
        assert inside[name] != before[name]
        raise KeyError("half way")
    assert global_state() == before


def test_a_world_that_is_not_the_default_is_kept() -> None:
    """Settings of the user's own survive what changes nothing, and what changes them."""
    outer = global_state()
    with preserved():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cuda.enable_flash_sdp(False)
        before = global_state()
        with preserved():
            pass
        assert global_state() == before
        with preserved():
            torch.use_deterministic_algorithms(False)
            torch.backends.cuda.enable_flash_sdp(True)
        assert global_state() == before
    assert global_state() == outer


def test_every_state_is_tried() -> None:
    assert set(global_state()) - set(STATES) == {"inference mode"}
