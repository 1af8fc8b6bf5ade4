"""The numbers of an examination under stable keys, for programs and gates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.examination.manifest import SCHEMA_VERSION

if TYPE_CHECKING:
    from whynet.examination.report import Report

MOST_ENTRIES = 64
"""Quantities with more entries (curves, matrices) stand in `results.zarr` only."""


def numbers(report: Report) -> dict[str, Estimate]:
    """Return every number of a report by its stable key.

    The key is `instrument.quantity`, followed by one label for each axis:
    `fit.accuracy.test`. Quantities that differ by split alone have the short key
    `test_accuracy` as well, where that names one number.
    """
    return keyed(report.outcomes)


def keyed(outcomes: Mapping[str, Any]) -> dict[str, Estimate]:
    """Return every number of some instruments' outcomes by its stable key, see `numbers`."""
    found: dict[str, Estimate] = {}
    short: dict[str, list[Estimate]] = {}
    for instrument, outcome in outcomes.items():
        if isinstance(outcome, Measurement):
            for quantity, labels, estimate in entries(outcome):
                key = ".".join([instrument, quantity, *map(str, labels.values())])
                found[key] = estimate
                if tuple(labels) == ("split",):
                    short.setdefault(f"{labels['split']}_{quantity}", []).append(estimate)
    return found | {key: own[0] for key, own in short.items() if len(own) == 1}


def entries(measurement: Measurement) -> Iterator[tuple[str, dict[str, Any], Estimate]]:
    """Iterate over the entries of the small quantities of a measurement."""
    for quantity in measurement.names:
        variable = measurement.dataset[quantity]
        if variable.size > MOST_ENTRIES:
            continue
        axes = [str(dim) for dim in variable.dims]
        labels = [_labels(measurement, axis) for axis in axes]
        for combination in product(*labels):
            chosen = dict(zip(axes, combination, strict=True))
            estimate = measurement.estimate(quantity, **chosen)
            if not math.isnan(estimate.value):
                yield quantity, chosen, estimate


def _labels(measurement: Measurement, axis: str) -> list[Any]:
    if axis in measurement.dataset.coords:
        return [
            value.item() if isinstance(value, np.generic) else value
            for value in measurement.dataset[axis].values
        ]
    return list(range(measurement.dataset.sizes[axis]))


def to_json(report: Report) -> str:
    """Write the summary: facts, findings, numbers, states; strict JSON without NaN."""
    from whynet import __version__

    content = {
        "schema_version": SCHEMA_VERSION,
        "whynet": __version__,
        "subject": {
            "name": report.facts.name,
            "architecture": report.facts.architecture,
            "parameters": report.facts.parameters,
            "task": report.facts.task,
            "loss": report.facts.loss,
            "train_examples": report.facts.train_examples,
            "test_examples": report.facts.test_examples,
            "notes": list(report.facts.notes),
        },
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "findings": [
            {
                "key": finding.key,
                "headline": finding.headline,
                "numbers": finding.numbers,
                "advice": finding.advice,
                "importance": finding.importance,
                "estimate": as_json(finding.estimate),
                "references": [
                    {"name": r.name, "low": number(r.low), "high": number(r.high)}
                    for r in finding.references
                ],
                "cites": list(finding.cites),
            }
            for finding in report.findings
        ],
        "questions": {
            answer.id: {"state": answer.state, "reason": answer.reason} for answer in report.answers
        },
        "instruments": {name: _state(outcome) for name, outcome in report.outcomes.items()},
        "set_aside": [sentence for answer in report.answers for sentence in answer.aside],
        "numbers": {key: as_json(estimate) for key, estimate in numbers(report).items()},
        "references": {
            view: {key: as_json(estimate) for key, estimate in keyed(measured).items()}
            for view, measured in report.others.items()
        },
        "reference_notes": list(report.reference_notes),
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _state(outcome: Any) -> dict[str, str]:
    if isinstance(outcome, NotApplicable):
        return {"state": "not applicable", "reason": outcome.reason}
    if isinstance(outcome, Failed):
        return {"state": "failed", "reason": outcome.error}
    return {"state": "measured", "reason": ""}


def as_json(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as plain data; infinite ends become null."""
    return {
        "value": number(estimate.value),
        "low": number(estimate.low),
        "high": number(estimate.high),
        "kind": estimate.kind,
        "level": estimate.level,
        "unit": estimate.unit,
        "how": estimate.how,
        "over": estimate.over,
    }


def number(value: float) -> float | None:
    """Return a float that strict JSON can hold, or None."""
    return float(value) if math.isfinite(value) else None
