"""How far a smaller network is from the one it came from: measured, attacked and proven."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.condensation.approximate import BALL
from whynet.concepts.condensation.difference import attacked, difference_bounds
from whynet.concepts.condensation.exact_difference import ExactMaximum, exact_maximum
from whynet.concepts.condensation.layer_directions import layer_directions, sentence
from whynet.concepts.condensation.reduction import condense
from whynet.concepts.condensation.split_balls import split_bounds
from whynet.concepts.condensation.workplace import example_of
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.difference_bounds import Norm
from whynet.models.features import bounded
from whynet.models.free_widths import load_resized
from whynet.models.preservation import preserved
from whynet.models.scores import correct, has_one_label
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals

Content = dict[str, Any]

LOOSE: Final = 10.0
"""Proven bound over what an attack reaches, above which the bound is called loose."""

_ROUND_OFF: Final = {torch.float64: 1e-12, torch.float32: 1e-5}
_FAR: Final = 256
_REPEATS: Final = 7


@dataclass(frozen=True)
class Balls:
    """The balls of a certificate.

    Attributes:
        norm: `linf` or `l2`, in the units of the inputs.
        radius: of all balls; None: one hundredth of the spread of the training inputs (linf), or
            of their root mean square length about the mean (l2).
        points: most centers; fewer where the network is large.

    """

    norm: Norm = "linf"
    radius: float | None = None
    points: int = 100

    def checked(self) -> Balls:
        """Return the settings.

        Raises:
            InputError: a setting out of its range.

        """
        if self.norm not in ("linf", "l2"):
            raise InputError("norm", repr(self.norm), "linf or l2")
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise InputError("radius", repr(self.radius), "a number above 0")
        if self.points < 1:
            raise InputError("points", repr(self.points), "a whole number of at least 1")
        return self


def certify(
    subject: Subject,
    module: nn.Module,
    kept: Mapping[str, Sequence[int]],
    *,
    balls: Balls | None = None,
    seed: int = 0,
) -> Content:
    """Say how far a smaller network is from the one it came from, from the two networks alone.

    Args:
        subject: the network as it came, with its data.
        module: the smaller network.
        kept: as in `Condensed`; bounds hold whatever it says, and are tight where it is true.
        balls: around which points, and how large.
        seed: of the points and of the attack.

    Returns:
        Numbers that go into JSON as they are: `size`, `directions` (how few hold what the units of
        each layer of the large network contribute, beside random ones), `exact` (whether exact
        moves alone give the smaller network, so that the functions are equal up to round-off for
        all inputs, and the largest relative difference on data and far off them), `errors` and
        `scores` of each split, `balls` (proven bound, exact value by cells, attack), `labels`
        (radii in which no label changes), `time`.

    Raises:
        InputError: the networks do not belong together.

    Cost: some passes over the data; the bounds as `JointBounds`, on as many points as are
    affordable; eight times that on a quarter of them for the radii of labels.
    """
    chosen = (balls or Balls()).checked()
    small = load_resized(subject.module, module.state_dict(), example_of(subject))
    smaller = subject.alone(small)
    with preserved():
        content: Content = {
            "size": _sizes(subject, smaller),
            "directions": directions_of(subject, seed),
            "exact": _exactness(subject, smaller, seed),
            "errors": {split: _errors(subject, smaller, split) for split in _splits(subject)},
            "scores": {split: _scores(subject, smaller, split) for split in _splits(subject)},
        }
        exact = bool(content["exact"]["holds"])
        content["balls"] = _balls(subject, smaller, kept, chosen, seed, exact)
        content["time"] = _times(subject, smaller)
    return content


def directions_of(subject: Subject, seed: int) -> list[Content]:
    """Say of every layer whether it is condensed, as it goes into JSON."""
    return [
        {
            **dataclasses.asdict(layer),
            "random": None if layer.random is None else list(layer.random),
            "condensed": layer.condensed,
            "sentence": sentence(layer),
        }
        for layer in layer_directions(subject, seed)
    ]


def _splits(subject: Subject) -> list[Split]:
    named: tuple[Split, ...] = ("train", "test")
    return [split for split in named if getattr(subject, split) is not None]


def _sizes(subject: Subject, smaller: Subject) -> Content:
    return {
        name: {
            "parameters": sum(p.numel() for p in one.module.parameters()),
            "bytes": sum(t.numel() * t.element_size() for t in one.module.state_dict().values()),
        }
        for name, one in (("before", subject), ("after", smaller))
    }


def _exactness(subject: Subject, smaller: Subject, seed: int) -> Content:
    """Make the exact moves again, and compare; measure round-off on data and far off them."""
    again = condense(subject, exact_only=True).module.state_dict()
    ours = smaller.module.state_dict()
    slack = _ROUND_OFF.get(subject.dtype, 1e-5)
    holds = all(
        again[name].shape == value.shape
        and bool(torch.allclose(again[name].double(), value.double(), rtol=slack, atol=slack))
        for name, value in ours.items()
    )
    found: Content = {"holds": holds}
    if holds:
        before, after = (one.outputs("train")[0].double() for one in (subject, smaller))
        found["on_data"] = _relative(before, after)[0]
        found["far_off"] = _far_off(subject, smaller, seed)
    return found


def _far_off(subject: Subject, smaller: Subject, seed: int) -> float | None:
    """Return the largest relative difference at random inputs of ten times the spread."""
    train = subject.examples("train")
    if not train.is_float:
        return None
    rows = range(min(_FAR, train.count))
    inputs, _ = train.take(rows, device=subject.device, dtype=subject.dtype)
    if not isinstance(inputs, Tensor):
        return None
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float64).to(inputs)
    far = inputs + 10 * inputs.std() * noise
    with torch.no_grad():
        before, after = (one.forward(one.parameters, far) for one in (subject, smaller))
    return _relative(before.double(), after.double())[0]


def _relative(before: Tensor, after: Tensor) -> tuple[float, float]:
    gap = after - before
    largest = float(gap.abs().max() / before.abs().max().clamp_min(1e-300))
    return largest, float(gap.norm() / before.norm().clamp_min(1e-300))


def _errors(subject: Subject, smaller: Subject, split: Split) -> Content:
    before, after = (one.outputs(split)[0].double() for one in (subject, smaller))
    largest, square = _relative(before, after)
    return {"examples": len(before), "largest": largest, "root_mean_square": square}


def _scores(subject: Subject, smaller: Subject, split: Split) -> Content:
    """Return loss and accuracy of both networks, and the paired changes with their intervals."""
    targets = subject.outputs(split)[1]
    outputs = [one.outputs(split)[0] for one in (subject, smaller)]
    losses = [subject.loss.per_example(o, targets).detach().double().numpy() for o in outputs]
    found: Content = {"loss": [float(np.mean(each)) for each in losses]}
    if len(targets) > 1:
        found["loss_change"] = _interval(
            intervals.paired_difference(losses[1], losses[0], over="examples")
        )
    if "classification" in subject.loss.task:
        right = [correct(subject.loss, o, targets).numpy() for o in outputs]
        found["accuracy"] = [float(each.mean()) for each in right]
        if has_one_label(subject.loss, outputs[0]):
            change = intervals.paired_difference_of_proportions(right[1] > 0.5, right[0] > 0.5)
            found["accuracy_change"] = _interval(change)
    return found


def _interval(estimate: Any) -> list[float]:
    return [float(estimate.value), float(estimate.low), float(estimate.high)]


def _balls(
    subject: Subject,
    smaller: Subject,
    kept: Mapping[str, Sequence[int]],
    balls: Balls,
    seed: int,
    exact: bool,
) -> Content:
    """Prove bounds over balls, and attack the difference in them; equal networks need neither."""
    if exact:
        return {"not_applicable": "The functions are equal for all inputs, so none is needed."}
    split = subject.any_split
    examples = bounded(subject.examples(split), balls.points, "certificate", seed)
    radius = balls.radius or _usual_radius(subject, balls.norm)
    found = difference_bounds(subject, smaller, kept, examples, radius, balls.norm)
    if isinstance(found, NotApplicable):
        return {"not_applicable": found.reason}
    reached = attacked(subject, smaller, found.centers, radius, balls.norm, seed)
    highest = found.highest
    if balls.norm == "linf":
        most = float(reached.max())
        highest = split_bounds(found.of_balls, found.centers, radius, highest, most, found.most)
    cells = exact_maximum(subject, smaller, found.centers, radius, balls.norm, highest)
    certified = highest
    if isinstance(cells, ExactMaximum):
        # Round-off of vertices never brings an exact value below what was reached.
        exact_or_bound = np.where(np.isnan(cells.values), highest, cells.values)
        certified = np.maximum(exact_or_bound, np.minimum(reached, highest))
    ratio = highest / np.maximum(reached, 1e-300)
    typical = float(np.median(ratio[reached > 0])) if (reached > 0).any() else 1.0
    content: Content = {
        "split": split,
        "norm": balls.norm,
        "radius": radius,
        "points": len(reached),
        "scale": found.scale,
        "proven": float(highest.max() / found.scale),
        "certified": float(certified.max() / found.scale),
        "attacked": float(reached.max() / found.scale),
        "median_ratio": typical,
        "curved": list(found.curved),
        "loose": bool(certified.max() > LOOSE * reached.max()),
        "cells": _cells(cells, found.scale),
    }
    if found.label_radii is not None:
        radii = found.label_radii
        content["labels"] = {
            "points": len(radii),
            "median_radius": float(np.median(radii)),
            "least_radius": float(radii.min()),
            "same_within_radius": float((radii >= radius).mean()),
        }
    return content


def _cells(cells: ExactMaximum | NotApplicable, scale: float) -> Content:
    if isinstance(cells, NotApplicable):
        return {"not_applicable": cells.reason}
    known = cells.values[~np.isnan(cells.values)]
    return {
        "balls": len(known),
        "cells": cells.cells,
        "largest": float(known.max() / scale) if len(known) else None,
        "complete": cells.complete,
    }


def _usual_radius(subject: Subject, norm: Norm) -> float:
    examples = bounded(subject.examples("train"), 1000, "radius")
    inputs, _ = examples.take(range(examples.count), dtype=torch.float64)
    if not isinstance(inputs, Tensor):
        return BALL
    rows = inputs.double().flatten(1)
    if norm == "linf":
        return BALL * float(rows.std()) if rows.numel() > 1 else BALL
    return BALL * float((rows - rows.mean(0)).norm(dim=1).square().mean().sqrt())


def _times(subject: Subject, smaller: Subject) -> Content:
    """Time one batch through both networks in turn; these numbers are the machine's."""
    examples = subject.examples(subject.any_split)
    rows = min(512, examples.count)
    inputs, _ = examples.take(range(rows), device=subject.device, dtype=subject.dtype)
    seconds: list[list[float]] = [[], []]
    with torch.no_grad():
        for _ in range(_REPEATS + 1):
            for place, one in enumerate((subject, smaller)):
                begin = time.perf_counter()
                one.forward(one.parameters, inputs)
                seconds[place].append(time.perf_counter() - begin)
    before, after = (each[1:] for each in seconds)
    return {
        "rows": rows,
        "before": statistics.median(before),
        "after": statistics.median(after),
        "before_range": [min(before), max(before)],
        "after_range": [min(after), max(after)],
    }
