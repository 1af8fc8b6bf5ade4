"""All cases by name."""

from __future__ import annotations

import hashlib

import torch
from tests.derivatives.torch_ops import (
    activations_and_losses,
    compiled,
    hazards,
    normalization,
    sequences,
    spatial,
    tensors,
)
from tests.derivatives.torch_ops.small import Case, Cases

from whynet.derivatives.objective import Objective, objective_of, widen
from whynet.models.fitting_rows import row_count

FILES = (activations_and_losses, normalization, spatial, sequences, tensors, hazards, compiled)
CASES: Cases = {name: build for file in FILES for name, build in file.CASES.items()}


def build(name: str) -> Case:
    """Build a case; its weights and data depend on its name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CASES[name]()


def objective(name: str, dtype: torch.dtype) -> Objective:
    """Build a case as an objective in a dtype."""
    case = build(name)
    inputs, targets = case.inputs, case.targets
    if dtype == torch.float64:
        case.module.double()
        inputs, targets = widen(inputs), widen(targets)
    made = objective_of(
        case.module, case.loss, lambda: [(inputs, targets)], row_count(inputs), case.call
    )
    return made if dtype == torch.float32 else made.wide()
