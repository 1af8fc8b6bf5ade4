"""A halfspace with noise in its weights, whose mean error is a finite sum of normal integrals."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, ROWS = 6, 300
RELATIVE = tuple(2.0 ** (half / 2) for half in range(-4, 4))
"""Sizes of the noise, in units of the root mean square of the initial weights."""


def noisy_halfspace() -> ClosedForm:
    """One logit w·x, some labels wrong, and initial weights of a known size and distance.

    With noise N(0, σ²I) in w the logit of x is normal with mean w·x and deviation σ‖x‖, so that x
    is mistaken with probability Φ(−y w·x / (σ‖x‖)).
    """
    generator = np.random.default_rng(seed_from("noisy-halfspace"))
    points = np.round(generator.standard_normal((ROWS, FEATURES)), 3)
    weight = np.array([1.0, -0.5, 0.25, 0.75, 0.0, -1.25])
    before = np.array([0.5, 0.25, -0.5, 0.5, -0.25, -0.25])
    signs = np.where(points @ weight + 0.5 * generator.standard_normal(ROWS) > 0, 1.0, -1.0)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        module, initial = nn.Linear(FEATURES, 1, bias=False), nn.Linear(FEATURES, 1, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weight)[None])
            initial.weight.copy_(torch.tensor(before)[None])
        data = (torch.tensor(points, dtype=dtype), torch.tensor(signs > 0).to(dtype))
        return Subject(
            module,
            train=data,
            loss="bce",
            dtype=dtype,
            initial=initial,
            name="noisy halfspace",
        )

    return ClosedForm(
        subject, {"bound-ingredients": _truth(points, weight, before, signs)}, over_examples=False
    )


def _truth(
    points: np.ndarray, weight: np.ndarray, before: np.ndarray, signs: np.ndarray
) -> dict[Key, float]:
    leads, lengths = signs * (points @ weight), np.sqrt((points**2).sum(1))
    unit = float(np.sqrt((before**2).mean()))
    truth: dict[Key, float] = {
        ("distance", ()): float(np.sqrt(((weight - before) ** 2).sum())),
        ("unit_of_noise", ()): unit,
        ("parameters", ()): float(FEATURES),
        ("spectral_norm", (("layer", "linear"),)): float(np.sqrt((weight**2).sum())),
        ("row_distance", (("layer", "linear"),)): float(np.sqrt(((weight - before) ** 2).sum())),
        ("input_norm", ()): float(np.sqrt((points**2).sum())),
        ("margin_error", (("gamma", 0.5),)): float((leads <= 0.5).mean()),
    }
    for relative in RELATIVE:
        chance = special.ndtr(-leads / (relative * unit * lengths)).mean()
        truth[("perturbed_error", (("noise", relative),))] = float(chance)
    return truth
