"""A quadratic: linear regression, whose Hessian is known and the same everywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, ROWS = 40, 96


def design() -> np.ndarray:
    """Inputs whose second moment has one eigenvalue 100 times the bulk, in a turned basis."""
    generator = np.random.default_rng(seed_from("quadratic"))
    rows, _ = np.linalg.qr(generator.standard_normal((ROWS, FEATURES)))
    turn, _ = np.linalg.qr(generator.standard_normal((FEATURES, FEATURES)))
    bulk = np.linspace(0.2, 1.8, FEATURES)
    bulk[-1] = 100.0
    return np.asarray(rows * np.sqrt(bulk * ROWS / 2) @ turn.T)


def quadratic() -> ClosedForm:
    """Mean squared error of a linear model: Hessian 2/n X'X, of spectrum 0.2 to 1.8 and 100."""
    inputs = design()
    eigenvalues = np.linalg.eigvalsh(2 / ROWS * inputs.T @ inputs)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("quadratic", draw))
        targets = torch.tensor(random.standard_normal(ROWS), dtype=dtype)
        module = nn.Linear(FEATURES, 1, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(random.standard_normal((1, FEATURES))))
        data = (torch.tensor(inputs, dtype=dtype), targets)
        return Subject(module, train=data, loss="mse", dtype=dtype, name="quadratic")

    truth: dict[Key, float] = {
        ("trace", ()): float(eigenvalues.sum()),
        ("largest", ()): float(eigenvalues[-1]),
    }
    both = {"hessian-spectrum": truth, "gauss-newton-spectrum": truth}
    return ClosedForm(subject, both, over_examples=False)
