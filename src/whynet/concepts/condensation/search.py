"""The search for the smallest network within a tolerance: which sizes are tried, at what effort."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import nn

from whynet.concepts.condensation.approximate import (
    Prepared,
    Task,
    assemble,
    kept_at,
    readers_of,
    relative_error,
)
from whynet.concepts.condensation.homogeneous_units import homogeneous_units
from whynet.core.errors import InputError
from whynet.models.subject import Subject

MERGES: Final = (None, 0.0, 0.9)
"""Ways of carrying on with the units that stay, see `assemble`; the best of them is taken."""

CURVE: Final = tuple(10 ** (-j / 3) for j in range(9, 0, -1))
"""Root mean square errors, relative, that the curve aims at."""

EFFORT: Final = 4e12
"""Floating-point operations that trying sizes may take, about: a minute or two on one core."""

_HALVINGS: Final = 6


@dataclass(frozen=True)
class Point:
    """A network on the curve of size against error.

    Attributes:
        widths: channels of every layer that may lose some, in the order of `Condensed.layers`.
        parameters: numbers of the network.
        largest: largest difference of an output on the training data over the largest output.
        root_mean_square: the same of root mean squares.
        merge: how the units that stay carry on, see `assemble`.
        turned: whether their incoming weights were fitted to the large network's function, on the
            data and between them; errors are then the larger of both.

    """

    widths: tuple[int, ...]
    parameters: int
    largest: float
    root_mean_square: float
    merge: float | None
    turned: bool = False


class Search:
    """Looks for the smallest network within a tolerance, and keeps every one it tried."""

    def __init__(
        self,
        task: Task,
        prepared: Prepared | None,
        subject: Subject,
        tolerance: float,
        say: Callable[[str], None],
    ) -> None:
        self.task, self.prepared, self.tolerance, self.say = task, prepared, tolerance, say
        self.paths = [group.path for group in task.groups(task.module)]
        self.first = self._point(task.module, 0.0, 0.0, None)
        self.tried: list[tuple[Point, float]] = []
        groups = [] if prepared is None else [prepared.groups[i] for i in prepared.eliminations]
        self.merges: tuple[float | None, ...] = (None,)
        if any(homogeneous_units(task.module, group, maxima=True) for group in groups):
            self.merges = MERGES
        self.made: dict[bytes, list[Point]] = {}
        self.spent, self.untried = 0.0, 0

    def left(self, path: str) -> str | None:
        """Say why a group was left alone by the approximate moves."""
        if self.prepared is None:
            return None
        return self.prepared.left.get(self.paths.index(path))

    def curve(self) -> tuple[Point, ...]:
        """Return the best network of each size."""
        best: list[Point] = [self.first]
        for point in sorted((p for p, _ in self.tried), key=lambda p: (p.largest, p.parameters)):
            if point.parameters < best[-1].parameters:
                best.append(point)
        return tuple(best)

    def run(self, units: int | None) -> tuple[Point, nn.Module]:
        """Try levels from fine to coarse, then halve the gap around the tolerance."""
        if self.prepared is None:
            return self.first, self.task.module
        outputs = torch.cat([o.reshape(len(o), -1) for o in self.prepared.original.outputs])
        self.scale = float(outputs.square().sum(1).mean())
        levels = sorted({*CURVE, self.tolerance}) if self.tolerance > 0 else []
        for level in self._ordered(levels):
            self._try(level)
        if units is not None:
            return self._with_units(units)
        inside = [lv for p, lv in self.tried if p.largest <= self.tolerance]
        low = max(inside, default=min(levels, default=0.0) / 30)
        high = min([lv for _, lv in self.tried if lv > low], default=low)
        for _ in range(_HALVINGS if high > low > 0 else 0):
            middle = (low * high) ** 0.5
            fine = any(p.largest <= self.tolerance for p in self._try(middle))
            low, high = (middle, high) if fine else (low, middle)
        return self._best(self.tolerance)

    def kept(self, point: Point) -> dict[str, np.ndarray]:
        """Return the channels of the exactly reduced network that a point keeps, by layer."""
        level = next((level for tried, level in self.tried if tried is point), None)
        if level is None:
            return {}
        return {self.paths[index]: units for index, units in self._kept(level).items()}

    def _best(self, tolerance: float) -> tuple[Point, nn.Module]:
        fitting = [(p, level) for p, level in self.tried if p.largest <= tolerance]
        point, level = min(
            fitting,
            # Units that were turned are bounded less tightly: they must be fewer.
            key=lambda e: (e[0].parameters, e[0].turned, e[0].largest),
            default=(None, 0),
        )
        if point is None or point.parameters >= self.first.parameters:
            return self.first, self.task.module
        return point, self._network(level, point)

    def _with_units(self, units: int) -> tuple[Point, nn.Module]:
        level = self.tolerance or min(CURVE)
        free = [i for i, path in enumerate(self.paths) if self.left(path) is None]
        if units < len(free):
            raise InputError("units", str(units), f"at least {len(free)}, one in each layer")
        while True:
            found = [
                p for p in self._try(level, anyway=True) if sum(p.widths[i] for i in free) <= units
            ]
            if found:
                point = min(found, key=lambda p: p.largest)
                return point, self._network(level, point)
            level *= 1.15

    def _ordered(self, levels: list[float]) -> list[float]:
        """Order levels so that what matters most comes first where not all can be afforded."""
        total = sum(self._work(self._kept(level)) for level in levels)
        if (1 + _HALVINGS / max(1, len(levels))) * len(self.merges) * total <= EFFORT:
            return levels
        self.merges = (None,)
        return sorted(levels, key=lambda level: abs(math.log(level / self.tolerance)))

    def _work(self, kept: Mapping[int, np.ndarray]) -> float:
        """Return about how many operations a network with these units takes to make and judge."""
        assert self.prepared is not None
        forward = refits = 0.0
        touched = 0
        for index, group in enumerate(self.prepared.groups):
            if index not in self.prepared.eliminations:
                continue
            share = len(kept[index]) / group.width
            for reader, columns in readers_of(group):
                rows = sum(len(part) for part in self.prepared.original.returned[reader.weight])
                features = float((columns < 0).sum() + share * (columns >= 0).sum())
                outputs = reader.outputs
                width = 1 if outputs is None else len(outputs)
                forward += 2 * rows * features * width
                if share < 1:
                    refits += 2 * rows * features * (features + width) + 15 * features**3
                    touched += 1
        return (2 + touched) * forward + refits

    def _try(self, level: float, *, anyway: bool = False) -> list[Point]:
        """Make and judge networks at a level, each way of carrying on; none beyond the effort."""
        assert self.prepared is not None
        kept = self._kept(level)
        key = b"".join(units.tobytes() + b"|" for _, units in sorted(kept.items()))
        if key not in self.made:
            work = len(self.merges) * self._work(kept)
            if self.spent + work > EFFORT and self.tried and not anyway:
                self.untried += 1
                return []
            self.spent += work
            self.say(f"at an error of about {level:.1e}")
            self.made[key] = [point for merge in self.merges for point in self._points(kept, merge)]
        self.tried += [(point, level) for point in self.made[key]]
        return self.made[key]

    def _points(self, kept: Mapping[int, np.ndarray], merge: float | None) -> list[Point]:
        assert self.prepared is not None
        module = assemble(self.prepared, kept, merge=merge)
        points = [self._point(module, *relative_error(self.prepared, module), merge)]
        if self.prepared.can_turn(kept):
            module = assemble(self.prepared, kept, merge=merge, turn=True)
            errors = relative_error(self.prepared, module, around=True)
            points.append(replace(self._point(module, *errors, merge), turned=True))
        return points

    def limited(self) -> str:
        """Say in a sentence what was not tried, since it would take too long, or nothing."""
        if not self.untried:
            return ""
        return (
            f"Sizes were tried for about {EFFORT:.0e} operations, nearest to the tolerance first; "
            f"{self.untried} more were not, so that a smaller network may be within it."
        )

    def _kept(self, level: float) -> dict[int, np.ndarray]:
        assert self.prepared is not None
        return kept_at(self.prepared, level**2 * self.scale)

    def _network(self, level: float, point: Point) -> nn.Module:
        assert self.prepared is not None
        kept = self._kept(level)
        return assemble(self.prepared, kept, merge=point.merge, turn=point.turned)

    def _point(
        self, module: nn.Module, largest: float, square: float, merge: float | None
    ) -> Point:
        widths = tuple(group.width for group in self.task.groups(module))
        count = sum(parameter.numel() for parameter in module.parameters())
        return Point(widths, count, largest, square, merge)
