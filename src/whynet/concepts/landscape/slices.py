"""The loss on a line or plane through a network's weights: a picture, not a measure.

Li, Xu, Taylor, Studer and Goldstein (2018, arXiv:1712.09913): random directions whose filters are
scaled to the length of the network's, since the same step means more where weights are small. What
such a slice shows depends on the draw of the directions, and of the millions that there are it
shows one or two: neither flatness nor convexity can be read off it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.curvature.spectra import spectrum
from whynet.core.errors import InputError
from whynet.core.seeds import seed_from
from whynet.derivatives.flat import Layout
from whynet.models.batch_norm import batch_normalized, recalibrate
from whynet.models.data.examples import Examples
from whynet.models.features import bounded
from whynet.models.subject import Split, Subject
from whynet.numerics.long_products import long_norm

Directions = Literal["random", "eigenvectors"]

MOST_POINTS = 10_000


@dataclass(frozen=True)
class LossSlice:
    """Losses on a line or on a plane through the weights.

    Attributes:
        positions: `[points]`, shares of the span along each axis, in units of the directions; odd,
            so that the middle one is the network itself.
        loss: `[points]` or `[points, points]`, mean loss on the rows; the first axis is the first
            direction. Infinite or NaN where the network is.
        directions: what the axes are.
        lengths: norms of the directions.
        rows: number of rows the loss is averaged over.
        notes: full sentences.

    """

    positions: np.ndarray
    loss: np.ndarray
    directions: Directions
    lengths: tuple[float, ...]
    rows: int
    notes: tuple[str, ...]

    @property
    def center(self) -> float:
        """Loss of the network itself."""
        middle = len(self.positions) // 2
        return float(self.loss[(middle,) * self.loss.ndim])


def loss_slice(
    subject: Subject,
    *,
    dimensions: int = 1,
    points: int = 21,
    span: float | None = None,
    directions: Directions = "random",
    split: Split = "train",
    rows: int = 2000,
    seed: int = 0,
) -> LossSlice:
    """Return the loss on a grid of points around the weights, along one or two directions.

    Args:
        subject: the network with its loss and data.
        dimensions: 1 or 2.
        points: along each direction; odd, at least 3.
        span: how far from the weights, in units of the directions; by default 1 for random ones,
            and for eigenvectors as far as it takes the curvature along the first to raise the loss
            by one, since along them the length of the weights is far.
        directions: `random`, with filters scaled to those of the network (a filter is what makes
            one output unit or channel; biases and other vectors stay); or `eigenvectors` of the
            largest eigenvalues of the Hessian, scaled to the norm of the weights.
        split: which data.
        rows: most rows, drawn once.
        seed: of directions and rows.

    Raises:
        InputError: numbers out of range, or no weights with filters.

    Cost: `points ** dimensions` forward passes over the rows; where there is batch normalization
    its statistics are reset at every point, which doubles that; eigenvectors some 20 products.

    """
    if dimensions not in (1, 2):
        raise InputError("dimensions", str(dimensions), "1 or 2")
    if points < 3 or points % 2 == 0 or points**dimensions > MOST_POINTS:
        wanted = f"an odd number of at least 3, at most {MOST_POINTS:,} points in all"
        raise InputError("points", str(points), wanted)
    if span is not None and not 0 < span < float("inf"):
        raise InputError("span", str(span), "a number above 0")
    known = get_args(Directions)
    if directions not in known:
        raise InputError("directions", repr(directions), f"one of {', '.join(known)}")
    examples = bounded(subject.examples(split), rows, "loss-slice", seed)
    if directions == "random":
        axes, usual = _random(subject, dimensions, seed), 1.0
    else:
        axes, usual = _eigenvectors(subject, dimensions, split, examples.count, seed)
    positions = np.linspace(-1, 1, points) * (span or usual)
    grid = np.stack(np.meshgrid(*[positions] * dimensions, indexing="ij"), axis=-1)
    losses = [_loss_at(subject, examples, axes, place) for place in grid.reshape(-1, dimensions)]
    notes = [f"The loss is averaged over {examples.count:,} rows, in evaluation mode."]
    if batch_normalized(subject.module):
        notes.append("Statistics of batch normalization were reset at every point.")
    lengths = tuple(
        float(long_norm(torch.cat([p.reshape(-1) for p in axis.values()]))) for axis in axes
    )
    shaped = np.array(losses).reshape(grid.shape[:-1])
    return LossSlice(positions, shaped, directions, lengths, examples.count, tuple(notes))


def _random(subject: Subject, dimensions: int, seed: int) -> list[dict[str, Tensor]]:
    return [_filtered(subject, seed_from("loss slice", seed, axis)) for axis in range(dimensions)]


def _filtered(subject: Subject, seed: int) -> dict[str, Tensor]:
    """Draw a direction whose filters have the lengths of the network's; vectors get zeros."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, parameter in subject.parameters.items():
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if parameter.ndim < 2:
            found[name] = torch.zeros_like(parameter)
            continue
        rows, own = draw.flatten(1), parameter.detach().flatten(1)
        scale = own.norm(dim=1, keepdim=True) / rows.norm(dim=1, keepdim=True).clamp(min=1e-30)
        found[name] = (rows * scale).reshape(parameter.shape)
    if not any(piece.any() for piece in found.values()):
        raise InputError("subject", "no weights but vectors and zeros", "a network with filters")
    return found


def _eigenvectors(
    subject: Subject, count: int, split: Split, rows: int, seed: int
) -> tuple[list[dict[str, Tensor]], float]:
    """Return the eigenvectors, as long as the weights, and how far along them the loss grows."""
    found = spectrum(subject, k=count, smallest=0, split=split, rows=rows, seed=seed)
    layout = Layout.of(subject.parameters)
    size = long_norm(layout.flatten(tuple(subject.parameters.values())))
    columns = (found.vectors[:, :count] * size).unbind(1)
    axes = [dict(zip(layout.names, layout.unflatten(column), strict=True)) for column in columns]
    curvature, length = found.largest[0].value, float(size)
    usual = math.sqrt(2 / curvature) / length if curvature > 0 and length > 0 else 1.0
    return axes, min(1.0, usual)


def _loss_at(
    subject: Subject, examples: Examples, axes: list[dict[str, Tensor]], place: np.ndarray
) -> float:
    moved = dict(subject.parameters)
    for axis, share in zip(axes, place, strict=True):
        moved = {name: value + float(share) * axis[name] for name, value in moved.items()}

    def batches(of: Subject) -> Iterator[tuple[Any, Any]]:
        yield from examples.batches(of.batch_size, device=of.device, dtype=of.dtype)

    if batch_normalized(subject.module):
        there = subject.replaced(copy.deepcopy(subject.module))
        with torch.no_grad():
            for name, parameter in there.module.named_parameters():
                if name in moved:
                    parameter.copy_(moved[name])
        recalibrate(there.module, lambda: batches(there))
        subject, moved = there, dict(there.parameters)
    total, count = 0.0, 0.0
    with torch.no_grad():
        for inputs, targets in batches(subject):
            value, scored = subject.loss.sums(subject.forward(moved, inputs), targets)
            total, count = total + float(value), count + float(scored)
    return total / count
