"""The record of a training run: what was measured, step by step."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from whynet.core.errors import InputError, StoreError
from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.models import trajectory_pictures
from whynet.models.trajectory_pictures import Pictures

FORMAT: Final = "whynet trajectory"
SCHEMA_VERSION: Final = "1.1"
"""A newer major number is refused, an older minor one read."""

MOST_BYTES: Final = 64 * 2**20
"""Of a file: it may come from anyone."""

_TEXTS = ("kind", "unit", "how", "over", "missing")
_SPECIAL = {"inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Trajectory:
    """Quantities over the steps of a training run, each with its bounds.

    Make it with `whynet.Recorder`, or read it from a file with `load`.

    Attributes:
        dataset: variables `x`, `x_low`, `x_high` over `step`, of the schema of `Measurement`.
        pictures: cells of the network in a polygon at some of the steps, as a picture shows them.

    Raises:
        InputError: the dataset is none of that schema, or its steps do not rise from 0 or more.

    """

    dataset: xr.Dataset
    pictures: Pictures = field(default=(), compare=False)

    def __post_init__(self) -> None:
        steps = self.dataset["step"].values if "step" in self.dataset.coords else np.array([])
        rising = steps.ndim == 1 and steps.dtype.kind in "iu" and bool((np.diff(steps) > 0).all())
        if not steps.size or not rising or int(steps[0]) < 0:
            raise InputError("dataset", f"steps {steps!r:.80}", "whole numbers that rise from 0 on")
        others = [str(n) for n, variable in self.dataset.items() if variable.dims != ("step",)]
        if others:
            raise InputError("dataset", f"{others[0]!r} of other axes", "quantities over step")
        if any(step not in steps for step, _ in self.pictures):
            raise InputError("pictures", "one of a step that is not recorded", "recorded steps")
        try:
            Measurement(self.dataset)
        except ValueError as error:
            raise InputError("dataset", str(error), "the schema of a Measurement") from error

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of the recorded steps."""
        return tuple(int(step) for step in self.dataset["step"].values)

    @property
    def measurement(self) -> Measurement:
        """The same dataset as a `Measurement`."""
        return Measurement(self.dataset)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities."""
        return self.measurement.names

    def estimate(self, name: str, step: int | None = None) -> Estimate:
        """Return a quantity at a recorded step, at the last one by default."""
        return self.measurement.estimate(name, step=self.steps[-1] if step is None else step)

    def values(self, name: str) -> np.ndarray:
        """Return a quantity at all steps."""
        return np.asarray(self.dataset[name].values)

    def __repr__(self) -> str:
        return f"Trajectory({len(self.steps)} steps to {self.steps[-1]}: {', '.join(self.names)})"

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file, read back by `load` to the same bits.

        Raises:
            InputError: the file cannot be written.

        """
        content = _content(self)
        text = json.dumps(
            {
                "format": FORMAT,
                "schema_version": SCHEMA_VERSION,
                "sha256": _digest(content),
                "content": content,
            },
            allow_nan=False,
        )
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(
                "path", f"{str(path)!r}, not writable ({error.strerror})", "a file to write"
            ) from error

    @classmethod
    def load(cls, path: str | Path, argument: str = "path") -> Trajectory:
        """Read what `save` wrote; nothing in the file is ever run.

        Args:
            path: the file.
            argument: name of the argument it came from, for sentences.

        Raises:
            InputError: there is no such file, or it is no trajectory.
            StoreError: it is damaged, or of a newer version.

        """
        return _parsed(_read(Path(path), argument), str(path), argument)


def _content(trajectory: Trajectory) -> dict[str, Any]:
    dataset = trajectory.dataset
    quantities = {}
    for name in trajectory.names:
        attrs = dataset[name].attrs
        quantities[name] = {
            **{key: str(attrs.get(key, "")) for key in _TEXTS},
            "level": float(attrs["level"]),
            **{
                part: [_written(x) for x in dataset[name + suffix].values.tolist()]
                for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
            },
        }
    pictures = trajectory_pictures.written(trajectory.pictures)
    return {
        **({"pictures": pictures} if pictures else {}),
        "step": list(trajectory.steps),
        "quantities": quantities,
        "cites": [str(key) for key in dataset.attrs.get("cites", ())],
        "notes": [str(note) for note in dataset.attrs.get("notes", ())],
        "check": str(dataset.attrs.get("check", "")),
    }


def _written(number: float) -> float | str | None:
    """JSON knows neither NaN nor infinity."""
    if math.isfinite(number):
        return float(number)
    return None if math.isnan(number) else ("inf" if number > 0 else "-inf")


def _number(entry: Any) -> float:
    if entry is None:
        return math.nan
    if type(entry) is str:
        return _SPECIAL[entry]
    if type(entry) not in (int, float):
        raise TypeError(f"{type(entry).__name__} is no number")
    return float(entry)


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, argument: str) -> dict[str, Any]:
    wanted = "a file that Trajectory.save wrote"
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        found = f"{str(path)!r}, unreadable ({error.strerror})"
        raise InputError(argument, found, wanted) from error
    if len(raw) > MOST_BYTES:
        raise InputError(argument, f"{str(path)!r} of more than 64 MiB", wanted)
    try:
        whole = json.loads(raw.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        if raw.lstrip().startswith(b'{"format": "' + FORMAT.encode()):
            raise StoreError(argument, f"{str(path)!r}, cut off or damaged", wanted) from error
        raise InputError(argument, f"{str(path)!r}, no record of training", wanted) from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise InputError(argument, f"{str(path)!r}, no record of training", wanted)
    return whole


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _parsed(whole: dict[str, Any], where: str, argument: str) -> Trajectory:
    version, ours = whole.get("schema_version"), int(SCHEMA_VERSION.split(".")[0])
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,6}\.\d{1,6}", version):
        raise StoreError(argument, f"no schema_version in {where!r}", "a version like 1.0")
    if int(version.split(".")[0]) > ours:
        found = f"schema_version {version} in {where!r}"
        raise StoreError(argument, found, f"at most {ours}.x: update whynet")
    try:
        content = whole["content"]
        if _digest(content) != whole["sha256"]:
            raise ValueError("its content is not what its SHA-256 says")
        return _trajectory(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # InputError is a ValueError: a dataset that breaks the schema is damage here.
        reason = str(error).rstrip(".") or type(error).__name__
        raise StoreError(
            argument, f"{where!r}, damaged ({reason:.200})", "a file that Trajectory.save wrote"
        ) from error


def _trajectory(content: dict[str, Any]) -> Trajectory:
    steps = content["step"]
    if not isinstance(steps, list) or any(type(s) is not int or s >= 2**62 for s in steps):
        raise TypeError("steps are no whole numbers")
    quantities = {}
    for name, entry in content["quantities"].items():
        texts = {key: entry[key] for key in _TEXTS}
        if any(not isinstance(text, str) for text in texts.values()):
            raise TypeError(f"a text of {name!r} is none")
        value, low, high = (
            np.array([_number(x) for x in entry[part]]) for part in ("value", "low", "high")
        )
        if not len(value) == len(low) == len(high) == len(steps):
            raise ValueError(f"{name!r} has not one entry a step")
        quantities[name] = Quantity(
            value, low, high, dims=("step",), level=_number(entry["level"]), **texts
        )
    notes, cites = content["notes"], content["cites"]
    for texts_of in (notes, cites):
        if not isinstance(texts_of, list) or any(not isinstance(text, str) for text in texts_of):
            raise TypeError("notes or citations are no texts")
    check = content["check"]
    if not isinstance(check, str):
        raise TypeError("the check is no text")
    coords = {"step": np.array(steps, dtype=np.int64)}
    pictures = trajectory_pictures.parsed(content.get("pictures", []), steps)
    return Trajectory(Measurement.of(quantities, coords, cites, notes, check).dataset, pictures)
