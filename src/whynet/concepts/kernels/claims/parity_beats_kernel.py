"""A network learns which two signs are multiplied from fewer rows than any kernel method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.kernels.hidden_targets import (
    Hidden,
    bound,
    draw_hidden,
    errors,
    judge_hidden,
)
from whynet.concepts.kernels.theory.dimension_bound import parities
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="A network learns which two of many signs are multiplied, and its kernel does not",
    statement="""
Inputs are d independent signs, targets the product of the first two: one of N = d(d−1)/2 parities.
A two-layer network of rectified units whose features move in training learns it from n = 8 d rows.
Its own tangent kernel at the start does not: whatever the kernel, if its law is the same for all
pairs of entries, the predictions after n rows lie in n dimensions that all N parities share. Hence,
on average,

    E (f − y)² ≥ 1 − n/N,

and as many as (1 − error) N rows are needed for an error, a factor that grows like d over the rows
of the network.
""",
    kind="phenomenon",
    cites=("wei2019", "glasgow2024", "ghorbani2021"),
    answers=("generalization", "seven-features", "seven-dimension"),
    assumptions={
        "features": "the scaling lets training move what hidden units look at",
        "degree": "the target has no part of degree below two",
        "isotropic": "the start of the network does not know where the target hides",
    },
    parameters=(
        Parameter("dimension", "int", "entries of an input", 4, 2000),
        Parameter("ratio", "int", "training rows over the dimension", 1, 1000),
        Parameter("width", "int", "hidden units, an even number", 4, 65_536),
        Parameter("steps", "int", "training steps", 1, 1_000_000),
        Parameter("scaling", "choice", "how outputs are scaled", choices=("mean-field", "lazy")),
        Parameter("target", "choice", "what is to be learned", choices=("parity", "linear")),
        Parameter("start", "choice", "what hidden units look at before training",
                  choices=("isotropic", "aligned")),
    ),
    presets={
        "smoke": {"dimension": (20, 40), "ratio": (8,), "width": (64,), "steps": (100,),
                  "seeds": (5,)},
        "small": {"dimension": (24, 48, 96), "ratio": (8,), "width": (64,), "steps": (400,),
                  "seeds": (12,)},
        "full": {"dimension": (30, 60, 120, 240), "ratio": (8, 16), "width": (512,),
                 "steps": (2000,), "seeds": (20,)},
    },
    controls=(
        Control("lazy", "features", "scaling", "lazy",
                "With outputs a thousand times larger and rates smaller by the square, training "
                "hardly moves a unit, and the network is its kernel."),
        Control("linear", "degree", "target", "linear",
                "A linear target is one of d, not of d²/2, and the kernel learns it from as many "
                "rows as the network."),
        Control("aligned", "isotropic", "start", "aligned",
                "A kernel whose units look at the right entries from the start has nothing to "
                "find."),
    ),
    shape=("dimension", "ratio", "width", "steps", "scaling", "target", "start"),
    group=12,
    cost="about 30 s",
    tolerance="At each dimension the network's mean squared error on unseen rows, over the "
    "variance of the target, is at most 0.35 and its kernel's at least 1 − n/N. At the largest "
    "dimension a kernel needs at least 1.4 times the network's rows for the network's error, and "
    "that factor grows with the dimension by an exponent of at least 0.6.",
)  # fmt: skip


def signs(generator: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    """Draw independent signs."""
    return generator.integers(2, size=(rows, dimension)) * 2.0 - 1


def product(inputs: np.ndarray) -> np.ndarray:
    """Multiply the first two entries."""
    return np.asarray(inputs[:, 0] * inputs[:, 1])


def first(inputs: np.ndarray) -> np.ndarray:
    """Return the first entry."""
    return np.asarray(inputs[:, 0])


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the least error of any kernel method, and the size of the family."""
    return [bound(cell, parities(int(cell.number("dimension")), 2)) for cell in cells]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the errors of the trained networks and of their initial kernels on unseen rows."""
    linear = cells[0].parameters["target"] == "linear"
    return errors(cells, Hidden(signs, first if linear else product, 2))


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge errors at each dimension, and how the gap grows."""
    return judge_hidden(measured, predicted)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the errors of network and kernel over the dimension, and the bound."""
    draw_hidden(figure, measured, predicted)
