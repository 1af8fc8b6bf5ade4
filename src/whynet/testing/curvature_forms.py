"""A quadratic: linear regression, whose Hessian is known and the same everywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, ROWS = 40, 96
WIDE_FEATURES, WIDE_ROWS = 520, 1600


def design() -> np.ndarray:
    """Inputs whose second moment has one eigenvalue 100 times the bulk, in a turned basis."""
    bulk = np.linspace(0.2, 1.8, FEATURES)
    bulk[-1] = 100.0
    return turned_rows("quadratic", bulk, ROWS)


def turned_rows(name: str, spectrum: np.ndarray, count: int) -> np.ndarray:
    """Rows X such that 2/n X'X has this spectrum, in a turned basis."""
    generator, features = np.random.default_rng(seed_from(name)), len(spectrum)
    rows, _ = np.linalg.qr(generator.standard_normal((count, features)))
    turn, _ = np.linalg.qr(generator.standard_normal((features, features)))
    return np.asarray(rows * np.sqrt(spectrum * count / 2) @ turn.T)


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
    newton = truth | {("frobenius_norm", ()): float(np.linalg.norm(eigenvalues))}
    newton["layer_trace", (("parameter", "weight"),)] = truth["trace", ()]
    both = {"hessian-spectrum": truth, "gauss-newton-spectrum": newton}
    return ClosedForm(subject, both, over_examples=False)


def wide_quadratic() -> ClosedForm:
    """The same with more parameters than are diagonalized: a bulk from 0.2 to 2, and 200."""
    bulk = np.geomspace(0.2, 2.0, WIDE_FEATURES)
    bulk[-1] = 200.0
    inputs = turned_rows("wide-quadratic", bulk, WIDE_ROWS)
    random = np.random.default_rng(seed_from("wide-quadratic", "targets"))
    targets, weights = random.standard_normal(WIDE_ROWS), random.standard_normal(WIDE_FEATURES)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        module = nn.Linear(WIDE_FEATURES, 1, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weights[None]))
        data = (torch.tensor(inputs, dtype=dtype), torch.tensor(targets, dtype=dtype))
        return Subject(
            module, train=data, loss="mse", dtype=dtype, batch_size=WIDE_ROWS, name="wide quadratic"
        )

    def dimension(ridge: float) -> float:
        return float((bulk / (bulk + ridge)).sum())

    truth: dict[Key, float] = {("largest", ()): 200.0}
    for share in (0.1, 0.01, 0.001):
        truth["relative", (("share", share),)] = dimension(200.0 * share)
    for decay in (0.1, 0.01, 0.001, 0.0001):
        truth["effective_dimension", (("decay", decay),)] = dimension(decay)
        truth["log_determinant", (("decay", decay),)] = float(np.log(bulk + decay).sum())
    return ClosedForm(subject, {"effective-dimension": truth}, over_examples=False)
