"""A network finds the direction that an even target hangs on from fewer rows than any kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import gammaln

from whynet.concepts.kernels.hidden_targets import (
    Hidden,
    bound,
    draw_hidden,
    errors,
    judge_hidden,
)
from whynet.concepts.kernels.theory.dimension_bound import harmonics
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="A network finds the one direction that a target hangs on, and its kernel does not",
    statement="""
Inputs are uniform on the sphere of radius √d, targets |u·x| for a unit vector u, centered and of
unit variance: a sum of spherical harmonics of even degrees from two on. A two-layer network of
rectified units whose features move in training finds u from n = 8 d rows. Its own tangent kernel at
the start does not: if the law of a kernel is the same in all directions, the rotations of each
harmonic share the n dimensions in which it predicts, so that on average

    E (f − y)² ≥ 1 − n/N,    N = d(d+1)/2 − 1

the number of harmonics of degree two, and as many as (1 − error) N rows are needed for an error, a
factor that grows like d over the rows of the network.
""",
    kind="phenomenon",
    cites=("ghorbani2021", "damian2022", "hsu2021"),
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
        Parameter("target", "choice", "what is to be learned", choices=("single-index", "linear")),
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


def sphere(generator: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    """Draw points uniformly on the sphere of radius `√dimension`."""
    points = generator.standard_normal((rows, dimension))
    return np.asarray(np.sqrt(dimension) * points / np.linalg.norm(points, axis=1, keepdims=True))


def bent(inputs: np.ndarray) -> np.ndarray:
    """Return the size of the first entry, of mean 0 and variance 1 over the sphere.

    With `d x₁² / d` a beta variable, `E |x₁| = √(d/π) Γ(d/2)/Γ((d+1)/2)` and `E x₁² = 1`.
    """
    d = inputs.shape[1]
    mean = np.sqrt(d / np.pi) * np.exp(gammaln(d / 2) - gammaln((d + 1) / 2))
    return np.asarray((np.abs(inputs[:, 0]) - mean) / np.sqrt(1 - mean**2))


def first(inputs: np.ndarray) -> np.ndarray:
    """Return the first entry."""
    return np.asarray(inputs[:, 0])


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the least error of any kernel method, and the size of the family."""
    return [bound(cell, harmonics(int(cell.number("dimension")), 2)) for cell in cells]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the errors of the trained networks and of their initial kernels on unseen rows."""
    linear = cells[0].parameters["target"] == "linear"
    return errors(cells, Hidden(sphere, first if linear else bent, 1))


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge errors at each dimension, and how the gap grows."""
    return judge_hidden(measured, predicted)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the errors of network and kernel over the dimension, and the bound."""
    draw_hidden(figure, measured, predicted)
