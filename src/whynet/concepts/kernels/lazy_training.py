"""The function that the network linearized at its start is trained to, as `whynet.kernels.lazy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from whynet.concepts.kernels.linearized import Scored, scored_rows, tangents
from whynet.concepts.kernels.theory.linearized_descent import flow_at_times
from whynet.core.errors import InputError
from whynet.derivatives.empirical_ntk import plan_ntk
from whynet.models.subject import Split, Subject

MOST_ROWS = 3000
"""Training rows whose kernel is decomposed."""


@dataclass(frozen=True)
class Lazy:
    """A network beside itself linearized at its start, on the same rows.

    Attributes:
        times: of gradient flow on `½ mean |f − y|²`.
        outputs: of the linearized network, `[times, rows, outputs]`.
        start: of the network before training, `[rows, outputs]`.
        network: of the trained network, `[rows, outputs]`.
        full: whether the outputs were kept apart in the kernel; else their mean stands for each.

    """

    times: np.ndarray
    outputs: np.ndarray
    start: np.ndarray
    network: np.ndarray
    full: bool

    @property
    def distance(self) -> np.ndarray:
        """Return how far the trained network is from the linearized one, `[times]`.

        Root mean square, over that of how far training has moved the network.
        """
        away = np.sqrt(((self.outputs - self.network) ** 2).mean((1, 2)))
        moved = np.sqrt(((self.network - self.start) ** 2).mean())
        return np.asarray(away / moved if moved > 0 else np.full(len(away), np.nan))


def lazy(
    subject: Subject,
    split: Split = "test",
    *,
    times: Sequence[float] = (np.inf,),
    rows: int | None = None,
) -> Lazy:
    """Train the network linearized at its start by gradient flow, in closed form.

    With the tangent kernel Θ of the network before training, `f_t(x) = f₀(x) + Θ(x, X) Θ(X, X)⁻¹
    (1 − exp(−Θ(X, X) t/n)) (y − f₀(X))` (Lee et al. 2019, arXiv:1902.06720). Targets are one-hot
    labels minus their mean over classes, −1 and 1 for one logit, or real targets; a network that
    was trained by cross-entropy ends elsewhere for that reason too.

    Args:
        subject: a network whose weights before training are known.
        split: whose rows are compared.
        times: at least 0; infinity is the end.
        rows: training rows to fit, evenly spread; all by default.

    Raises:
        InputError: the start is unknown, the loss has no targets, a time is negative, or there are
            more than 3,000 training rows.

    Cost: the kernels in float64, and an eigendecomposition of rows (times outputs where these are
    at most 1,500 together).

    """
    asked = _times(times)
    initial = subject.initial
    if initial is None or subject.train is None:
        raise InputError(
            "subject", "a network without initial weights or training data", "both of them"
        )
    if subject.loss.task == "other":
        raise InputError("subject", f"the loss {subject.loss.name!r}", "one with targets")
    network, before = (one.in_precision(torch.float64) for one in (subject, initial))
    train, test = _fitted(network, rows), scored_rows(network, split)
    inputs = tuple(
        before.examples(part.split).take(part.rows, device=before.device, dtype=torch.float64)[0]
        for part in (train, test)
    )
    plan = plan_ntk(before, inputs[0])
    held = tangents(before, plan, (inputs[0], inputs[1]), train, test)
    columns = (-1, 1) if held.full else (len(train.rows), -1)
    beside = (-1, 1) if held.full else (len(test.rows), -1)
    _, found = flow_at_times(
        held.kernel,
        held.cross,
        (held.start.reshape(columns), held.offset.reshape(beside)),
        train.targets.reshape(columns),
        asked / len(train.rows),
    )
    own = network.outputs(split)[0].numpy().reshape(-1, plan.outputs)[test.rows]
    outputs = found.reshape(len(asked), *held.offset.shape)
    return Lazy(asked, outputs, held.offset, own, held.full)


def _times(times: Sequence[float]) -> np.ndarray:
    asked = np.asarray(times, dtype=np.float64)
    if asked.ndim != 1 or not asked.size or np.isnan(asked).any() or (asked < 0).any():
        raise InputError("times", repr(times), "numbers of at least 0")
    return asked


def _fitted(network: Subject, rows: int | None) -> Scored:
    train = scored_rows(network, "train")
    if rows is not None:
        if rows < 1:
            raise InputError("rows", repr(rows), "a whole number of at least 1")
        count = min(rows, len(train.rows))
        train = train.at(np.arange(count) * len(train.rows) // count)
    if len(train.rows) > MOST_ROWS:
        raise InputError("rows", f"{len(train.rows):,} training rows", f"at most {MOST_ROWS:,}")
    return train
