"""Trying claims on a user's network, and what is written of it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from whynet.atlas.registry import ClaimEntry, field_test_of, load_claim
from whynet.concepts.field_testing import CONTROL, checks_in, run_field_test
from whynet.concepts.field_verdicts import FieldVerdict, control_state, judged_field
from whynet.concepts.registry import load_field_test
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.field_test import AssumptionFails, Check, FieldModule, FieldTest
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.models.subject import Subject

REPORT, RESULTS = "report.html", "results.json"
WRITTEN: Final = frozenset({REPORT, RESULTS})
"""All that is written into a folder."""

SCHEMA_VERSION = "1.0"

FUNCTIONS = ("check_on", "predict_on", "measure_on", "another_on", "rivals_on")


@dataclass(frozen=True)
class FieldRecord:
    """One claim that was tried on one network.

    Attributes:
        entry: the claim.
        about: how it is tried.
        found: distances; or why it does not apply, or what failed.
        verdict: what they say; None where it failed.
        command: the command that recomputes exactly these numbers.
        seconds: what it took.

    """

    entry: ClaimEntry
    about: FieldTest
    found: Measurement | NotApplicable | Failed
    verdict: FieldVerdict | None
    command: str = ""
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """Of the verdict, or `failed`."""
        return "failed" if self.verdict is None else self.verdict.state

    @property
    def sentence(self) -> str:
        """Why, a full sentence."""
        if self.verdict is not None:
            return self.verdict.sentence
        return f"{self.found.error}." if isinstance(self.found, Failed) else ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """The assumptions that were checked."""
        if isinstance(self.found, AssumptionFails):
            return self.found.checks
        return checks_in(self.found) if isinstance(self.found, Measurement) else ()

    @property
    def distances(self) -> dict[str, Estimate]:
        """Prediction to its distance from what the network does; empty without a measurement."""
        if not isinstance(self.found, Measurement):
            return {}
        names = [str(name) for name in self.found.dataset["prediction"].values]
        return {name: self.found.estimate("distance", prediction=name) for name in names}

    @property
    def control(self) -> str:
        """What the control ends with; empty without a measurement."""
        return control_state(self.found) if isinstance(self.found, Measurement) else ""


def module_of(entry: ClaimEntry, announce: Callable[[str], None] | None = None) -> FieldModule:
    """Import the field test of a claim; a user's file is run, after it was announced.

    Raises:
        InputError: a user's file lacks one of the functions.

    """
    if entry.source is None:
        return load_field_test(entry.id)
    module = load_claim(entry.reference, entry.source, announce)
    missing = [name for name in FUNCTIONS if not hasattr(module, name)]
    if missing:
        found = f"{entry.reference!r} without {', '.join(missing)}"
        raise InputError("ID", found, "a field test's functions")
    return cast(FieldModule, module)


def try_claims(
    entries: Sequence[ClaimEntry],
    subject: Subject,
    *,
    seeds: int = 3,
    seed: int = 0,
    command: Callable[[str, int], str] = lambda reference, seeds: "",
    announce: Callable[[str], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[FieldRecord]:
    """Try claims on a network; one that raises does not lose the others.

    Args:
        entries: claims that have a field test.
        subject: the network with its loss and data.
        seeds: other seeds to train for reference, where a training function is known.
        seed: what all draws derive from.
        command: gives the command that recomputes one of them.
        announce: told before code of a user's claim runs.
        progress: told after each: how many are done, of how many, and which is next.

    """
    modules = [module_of(entry, announce) for entry in entries]
    records = []
    for place, (entry, module) in enumerate(zip(entries, modules, strict=True)):
        if progress:
            progress(place, len(entries), entry.id)
        about = field_test_of(entry)
        assert about is not None
        began = time.monotonic()
        found: Measurement | NotApplicable | Failed
        try:
            found = run_field_test(module, subject, seeds=seeds, seed=seed)
        except Exception as error:  # noqa: BLE001 - one claim's failure must not lose the others
            lines = str(error).strip().splitlines()
            words = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
            found = Failed(words.rstrip("."), "".join(traceback.format_exception(error)))
        verdict = None if isinstance(found, Failed) else judged_field(found, about)
        name = entry.id if entry.source is None else entry.reference
        again = command(name, seeds)
        records.append(FieldRecord(entry, about, found, verdict, again, time.monotonic() - began))
    if progress:
        progress(len(entries), len(entries), "")
    return records


def content_of(record: FieldRecord) -> dict[str, Any]:
    """Return what is known of a claim on a network as plain data for strict JSON."""
    content: dict[str, Any] = {
        "claim": record.entry.id,
        "asks": record.about.asks,
        "state": record.state,
        "sentence": record.sentence,
        "assumptions": [
            {"key": c.key, "text": record.about.assumptions.get(c.key, ""), "status": c.status,
             "found": c.found}
            for c in record.checks
        ],
        "control": {
            "name": record.about.control.name,
            "breaks": record.about.control.breaks,
            "state": record.control or "not run",
        },
        "command": record.command,
    }  # fmt: skip
    if isinstance(record.found, Measurement):
        references = [str(name) for name in record.found.dataset["reference"].values]
        content["items"] = round(record.found.estimate("items").value)
        content["distances"] = {n: _number(e) for n, e in record.distances.items()}
        content["leads"] = {
            name: _number(record.found.estimate("lead", of="theory", reference=name))
            for name in references
        } | {CONTROL: _number(record.found.estimate("control_behind"))}
        content["notes"] = list(record.found.notes)
    return content


def _number(estimate: Estimate) -> dict[str, Any]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    finite = {name: float(v) if math.isfinite(v) else None for name, v in values.items()}
    return {**finite, "kind": estimate.kind, "level": estimate.level, "unit": estimate.unit,
            "over": estimate.over}  # fmt: skip


def write_records(records: Sequence[FieldRecord], subject: Subject, folder: Path) -> None:
    """Write the page and the numbers of claims that were tried into a folder that exists."""
    from whynet import __version__
    from whynet.atlas.field_page import render_field

    content = {
        "schema_version": SCHEMA_VERSION,
        "whynet": __version__,
        "subject": {
            "name": subject.facts.name,
            "architecture": subject.facts.architecture,
            "loss": subject.facts.loss,
            "train": None if subject.train is None else subject.train.sha256,
            "test": None if subject.test is None else subject.test.sha256,
        },
        "claims": [content_of(record) for record in records],
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    (folder / RESULTS).write_text(text, encoding="utf-8")
    (folder / REPORT).write_text(render_field(records, subject.facts), encoding="utf-8")
