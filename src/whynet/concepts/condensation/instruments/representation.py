"""What a network's features became: their rank, neural collapse, and the sizes of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from whynet.core.estimate import Kind
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.features import Features, Head, features, find_head
from whynet.models.neurons import is_layer
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.numerics.class_geometry import NUMBERS, collapse, covariance_ranks
from whynet.numerics.jackknife import delete_group, groups_of

INSTRUMENT = Instrument(
    title="rank and collapse of the last features, stable ranks of the weights",
    unit="count",
    needs=("test-data", "deterministic"),
    cost="one forward pass over the data, the singular values of every weight matrix",
    cites=("papyan2020", "hui2022", "rudelson2007"),
    closed_form="gaussian-classes",
)

GROUPS = 30
ENOUGH_A_CLASS = 8
MOST_EXAMPLES, MOST_NUMBERS, LEAST_EXAMPLES = 10_000, 2**21, 500
"""Examples that are used, features of all of them together, and examples used in any case."""

MOST_CLASSES = 200
MOST_SIDE = 2048
"""Shorter side of the weight matrices whose singular values are computed."""

NAMES = {
    "variability": ("nc1", "tr(S_W S_B^+) / C, within-class over between-class covariance"),
    "norms": ("nc2_norms", "standard deviation over mean of the centered class means' lengths"),
    "angles": ("nc2_angles", "root mean square over pairs of classes of cosine + 1/(C-1)"),
    "alignment": ("nc3_alignment", "cosine of last layer's rows and class means, both centered"),
}
"""Number of `class_geometry` to the name and the definition of its quantity."""


@dataclass(frozen=True)
class Geometry:
    """Value, low and high of each number on one split, and whether examples were enough."""

    numbers: dict[str, tuple[float, float, float]]
    enough: bool


@dataclass(frozen=True)
class State:
    """The subject and its last layer; geometry and weights once the one round has run."""

    subject: Subject
    head: Head
    splits: dict[str, Geometry]
    weights: dict[str, tuple[float, float]]
    notes: tuple[str, ...] = ()


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Find the layer that makes the outputs, and what it reads."""
    head = find_head(subject, "test")
    return head if isinstance(head, NotApplicable) else State(subject, head, {}, {})


def advance(state: State) -> State:
    """Measure the features of each split and every weight matrix."""
    subject, width = state.subject, state.head.weight.shape[1]
    most = min(MOST_EXAMPLES, max(LEAST_EXAMPLES, MOST_NUMBERS // width))
    splits, notes = {}, []
    for split in ("train", "test"):
        data = subject.train if split == "train" else subject.test
        if data is None or data.count < 4:
            continue
        if data.count > most:
            notes.append(f"A seeded subset of {most:,} {split} examples was used.")
        found = features(subject, state.head, split, most)
        splits[split], said = geometry(subject, state.head, found)
        notes += said
    weights, said = weight_sizes(subject.module)
    return replace(
        state, splits=splits, weights=weights, notes=tuple(dict.fromkeys([*notes, *said]))
    )


def geometry(subject: Subject, head: Head, found: Features) -> tuple[Geometry, list[str]]:
    """Compute rank and collapse of one split, with each group of examples left out in turn."""
    count = min(GROUPS, len(found.rows))
    groups = groups_of(np.zeros(len(found.rows)), count)
    rank, left = covariance_ranks(found.rows, groups)
    width = found.rows.shape[1]
    none = (np.nan, np.nan, np.nan)
    numbers = {"rank": none}
    if np.isfinite([rank, *left]).all():
        value, low, high = np.clip(delete_group(rank, left, "log"), 1, width)
        numbers["rank"] = (float(value), float(low), float(high))
    enough, notes = len(found.rows) >= 3 * GROUPS, []
    if "classification" in subject.loss.task and has_one_label(subject.loss, found.outputs):
        labels = labels_of(found.targets, found.outputs, subject.loss).reshape(-1).numpy()
        present, size = np.unique(labels[labels != IGNORED], return_counts=True)
        kept = present[size >= 3]
        if len(kept) < len(present):
            notes.append("Classes with fewer than three examples are left out of the collapse.")
        if 2 <= len(kept) <= MOST_CLASSES:
            numbers |= _collapse(found.rows, labels, kept, head.weight)
            enough = enough and int(size[size >= 3].min()) >= ENOUGH_A_CLASS
        elif len(kept) > MOST_CLASSES:
            notes.append(f"Collapse is not measured for more than {MOST_CLASSES} classes.")
    return Geometry(numbers, enough), notes


def _collapse(
    rows: np.ndarray, labels: np.ndarray, kept: np.ndarray, weight: np.ndarray
) -> dict[str, tuple[float, float, float]]:
    """Compute the numbers of collapse over the classes that are kept."""
    inside = np.isin(labels, kept)
    rows, places = rows[inside], np.searchsorted(kept, labels[inside])
    # One logit z stands for the logits 0 and z; what all rows share moves no probability.
    full = np.concatenate([0 * weight, weight]) if len(weight) == 1 else weight
    weight = full[kept]
    count = min(GROUPS, len(rows))
    groups = groups_of(places, count)
    whole = collapse(rows, places, weight)
    left = [collapse(rows[groups != g], places[groups != g], weight) for g in range(count)]
    numbers = {}
    for name in NUMBERS:
        each = np.array([one[name] for one in left])
        numbers[name] = (np.nan, np.nan, np.nan)
        if np.isfinite([whole[name], *each]).all():
            scale: Any = "atanh" if name == "alignment" else "log"
            numbers[name] = delete_group(whole[name], each, scale)
    return numbers


def weight_sizes(module: nn.Module) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return stable rank and spectral norm of every linear layer's and convolution's weights.

    A convolution counts as the matrix from the patch it reads to its channels.
    """
    sizes: dict[str, tuple[float, float]] = {}
    notes = []
    for path, child in module.named_modules():
        if not is_layer(child):
            continue
        weight: Any = child.weight
        matrix = weight.detach().double().cpu().numpy().reshape(len(weight), -1)
        if min(matrix.shape) > MOST_SIDE:
            notes.append(f"Weight matrices with both sides above {MOST_SIDE:,} are left out.")
            continue
        largest = float(np.linalg.norm(matrix, 2))
        frobenius = float(np.linalg.norm(matrix))
        sizes[path] = ((frobenius / largest) ** 2 if largest > 0 else np.nan, largest)
    return sizes, notes


def read(state: State) -> Measurement:
    """Return the numbers of each split, and those of each weight matrix."""
    enough = all(one.enough for one in state.splits.values())
    kind: Kind = "interval" if enough else "indicative"
    how = "delete-group jackknife"
    quantities = {
        "feature_rank": _stacked(
            state, "rank", kind, "count", f"(tr S)² / tr S² of the features' covariance S, {how}"
        )
    }
    for number, (name, definition) in NAMES.items():
        if any(number in one.numbers for one in state.splits.values()):
            quantities[name] = _stacked(state, number, kind, "", f"{definition}, {how}")
    coords: dict[str, Any] = {"split": list(state.splits)}
    if state.weights:
        coords["layer"] = list(state.weights)
        ranks, norms = np.array(list(state.weights.values())).T
        quantities["stable_rank"] = Quantity(
            ranks, dims=("layer",), how="squared Frobenius over squared spectral norm",
            missing="the weights are all zero",
        )  # fmt: skip
        quantities["spectral_norm"] = Quantity(norms, dims=("layer",), how="largest singular value")
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites, notes=state.notes)


def _stacked(state: State, number: str, kind: Kind, unit: str, how: str) -> Quantity:
    none = (np.nan, np.nan, np.nan)
    rows = [one.numbers.get(number, none) for one in state.splits.values()]
    value, low, high = np.array(rows).T
    return Quantity(
        value,
        low,
        high,
        dims=("split",),
        unit=unit,
        kind=kind,
        how=how,
        over="examples",
        missing="features or class means do not differ, or (for lengths and angles) only two "
        "classes",
    )
