"""A convex polygon in a plane of a network's input space."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics.convex_polygons import convex_polygon

_DEPENDENT = 1e-9
"""Sine of the angle between two directions below which they are one."""

_MARGIN = 0.2
"""Of a rectangle around three points: share of its longer side added on every side."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A convex polygon in a plane of the input space, in orthonormal coordinates.

        Plane(origin, axes, polygon)
        Plane.through(a, b, c)
        Plane.box(-1, 1)

    Directions need not be orthonormal: they are made so (the first keeps its direction), and the
    polygon and the marks are moved along, so that lengths and areas in the plane are those of the
    input space.

    Attributes:
        origin: float64 [*input_shape], the input at the coordinates (0, 0).
        axes: float64 [2, *input_shape], orthonormal.
        polygon: float64 [P, 2], corners, counter-clockwise.
        marks: float64 [M, 2], points of interest, such as the three it goes through.

    Raises:
        InputError: something is not finite, shapes do not fit, the directions are dependent, or
            the polygon is not convex or has no area.

    """

    origin: Tensor
    axes: Tensor
    polygon: np.ndarray
    marks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))

    def __post_init__(self) -> None:
        origin, axes = _numbers(self.origin, "origin"), _numbers(self.axes, "axes")
        if axes.shape != (2, *origin.shape):
            raise InputError(
                "axes", f"an array of shape {list(axes.shape)}", f"[2, *{list(origin.shape)}]"
            )
        lower, basis = _orthonormal(axes.flatten(1))
        marks = np.asarray(self.marks, dtype=np.float64).reshape(-1, 2)
        for name, value in (
            ("origin", origin),
            ("axes", basis.reshape(axes.shape)),
            ("polygon", convex_polygon(np.asarray(convex_polygon(self.polygon)) @ lower)),
            ("marks", marks @ lower),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def through(cls, first: Any, second: Any, third: Any, *, margin: float = _MARGIN) -> Plane:
        """Return the rectangle around three points, in the plane through them.

        Args:
            first: one input, [*input_shape]; the origin.
            second: another one; the first axis points to it.
            third: another one, not on the line through the others.
            margin: share of the longer side that is added on every side.

        Raises:
            InputError: the points differ in shape, are not finite or lie on a line.

        """
        points = [_numbers(point, "points") for point in (first, second, third)]
        if len({tuple(point.shape) for point in points}) > 1:
            shapes = ", ".join(str(list(point.shape)) for point in points)
            raise InputError("points", f"points of the shapes {shapes}", "three of one shape")
        if not 0 <= margin < float("inf"):
            raise InputError("margin", repr(margin), "a finite number of at least 0")
        axes = torch.stack([points[1] - points[0], points[2] - points[0]])
        lower, basis = _orthonormal(axes.flatten(1), "points", "three points that lie on a line")
        marks = np.vstack([np.zeros(2), lower])
        low, high = marks.min(0), marks.max(0)
        space = margin * float((high - low).max())
        return cls(
            points[0], basis.reshape(axes.shape), _rectangle(low - space, high + space), marks
        )

    @classmethod
    def box(cls, low: float, high: float) -> Plane:
        """Return the square [low, high]^2 of a network with two inputs, shape [2].

        Raises:
            InputError: they are not finite or not in order.

        """
        if not -float("inf") < low < high < float("inf"):
            raise InputError("box", f"{low}, {high}", "two finite numbers in ascending order")
        square = _rectangle(np.full(2, float(low)), np.full(2, float(high)))
        return cls(torch.zeros(2), torch.eye(2), square)

    @classmethod
    def read(cls, path: str | Path, argument: str = "path") -> Plane:
        """Read a plane from an `.npz` file, in which nothing is unpickled.

        Args:
            path: holds `points` [3, *input_shape], or `origin`, `axes` and `polygon`, as the
                arguments of `Plane`; `marks` may be beside them.
            argument: how the caller calls it.

        Raises:
            InputError: there is no such file, it holds other arrays, or as for `Plane`.

        """
        wanted = "an .npz file with `points` [3, ...], or with `origin`, `axes` and `polygon`"
        if not Path(path).is_file():
            raise InputError(argument, f"no file {str(path)!r}", wanted)
        try:
            with np.load(path, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
        except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(argument, f"{str(path)!r}, which cannot be read", wanted) from error
        if {"origin", "axes", "polygon"} <= arrays.keys():
            marks = arrays.get("marks", np.zeros((0, 2)))
            return cls(arrays["origin"], arrays["axes"], arrays["polygon"], marks)
        if "points" in arrays and arrays["points"].ndim > 1 and len(arrays["points"]) == 3:
            return cls.through(*arrays["points"])
        names = ", ".join(sorted(arrays)[:6]) or "nothing"
        raise InputError(argument, f"{str(path)!r} with {names}", wanted)

    def inputs(self, coordinates: Any) -> Tensor:
        """Return the inputs, float64 [N, *input_shape], at coordinates, [N, 2]."""
        where = torch.as_tensor(np.asarray(coordinates, dtype=np.float64))
        inputs: Tensor = self.origin + torch.tensordot(where, self.axes, 1)
        return inputs


def _numbers(value: Any, argument: str) -> Tensor:
    try:
        found = torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(argument, f"a {type(value).__name__}", "an array of numbers") from error
    if not bool(found.isfinite().all()):
        raise InputError(argument, "values that are not finite", "finite ones")
    return found


def _orthonormal(
    axes: Tensor, argument: str = "axes", found: str = "two directions that depend on each other"
) -> tuple[np.ndarray, Tensor]:
    """Return L, lower triangular, and orthonormal Q with axes = L Q."""
    lengths = axes.norm(dim=1)
    if bool((lengths > 0).all()):
        first = axes[0] / lengths[0]
        rest = axes[1] - (axes[1] @ first) * first
        rest = rest - (rest @ first) * first
        if float(rest.norm()) > _DEPENDENT * float(lengths[1]):
            second = rest / rest.norm()
            lower = [[float(lengths[0]), 0.0], [float(axes[1] @ first), float(axes[1] @ second)]]
            return np.array(lower), torch.stack([first, second])
    raise InputError(argument, found, "three that span a plane" if argument == "points" else
                     "two independent directions")  # fmt: skip


def _rectangle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
