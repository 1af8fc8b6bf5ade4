"""The shape of a claim: a theorem, conjecture or phenomenon with its experiment and controls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure

Value = int | float | str
Kind = Literal["theorem", "conjecture", "phenomenon"]
State = Literal["supported", "refuted", "inconclusive", "not applicable"]
Scale = Literal["smoke", "small", "full"]
SCALES: Final[tuple[Scale, ...]] = ("smoke", "small", "full")

QUESTION_GROUPS: Final[dict[str, dict[str, str]]] = {
    "Breiman's four questions (1995)": {
        "breiman-overfit": "Why don't heavily parametrized networks overfit the data?",
        "breiman-parameters": "What is the effective number of parameters?",
        "breiman-minima": "Why doesn't descent end in a poor local minimum?",
        "breiman-stop": "When should training be stopped?",
    },
    "The seven questions (Berner et al. 2021, arXiv:2105.04026)": {
        "seven-generalization": "Why do overparametrized networks generalize?",
        "seven-depth": "What does depth buy?",
        "seven-dimension": "Why does high dimension do no harm?",
        "seven-optimization": "Why does non-convex training succeed?",
        "seven-features": "Which features are learned?",
        "seven-physics": "Why do deep networks suit problems of physics?",
        "seven-architecture": "How do details of the architecture change the behavior?",
    },
    "Capacity, optimization, generalization": {
        "capacity": "What can such networks represent, and at which size?",
        "optimization": "Why does training succeed, and how fast?",
        "generalization": "Why does what was learned carry over?",
    },
}
"""Questions a claim may answer, as the index of verdicts groups them."""

QUESTIONS: Final[dict[str, str]] = {
    key: text for group in QUESTION_GROUPS.values() for key, text in group.items()
}


@dataclass(frozen=True)
class Parameter:
    """One axis of a claim's grid.

    Attributes:
        name: `snake_case`; the command line writes it with hyphens.
        kind: `int`, `float` or `choice`.
        meaning: what it is, a phrase, with its unit.
        low: least value of a number.
        high: largest value of a number.
        choices: the values of a choice, the default first.

    """

    name: str
    kind: Literal["int", "float", "choice"]
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """The same experiment with one assumption broken; it must come out refuted.

    Attributes:
        name: `kebab-case`, unique in the claim.
        breaks: key of the assumption that no longer holds.
        parameter: the one parameter that is set.
        value: to what.
        meaning: what is done and why the claim must fail, a sentence.

    """

    name: str
    breaks: str
    parameter: str
    value: Value
    meaning: str


@dataclass(frozen=True)
class Claim:
    """What the registry knows of a claim without importing its file (all literals).

    Attributes:
        title: the claim in a phrase.
        statement: what is claimed, in full; formulas in plain Unicode, readable in a terminal.
        kind: theorem, conjecture or reported phenomenon.
        cites: keys of `references.bib`, the source of the statement first.
        answers: keys of `QUESTIONS`.
        assumptions: key to sentence.
        parameters: axes of the grid, those that break assumptions included.
        presets: scale to parameter to values; `seeds` is how many. A parameter that a preset
            leaves out has its first choice, which keeps all assumptions.
        controls: each breaks one assumption.
        shape: parameters that decide the shapes of arrays; cells of a group agree in them.
        group: most cells of a group.
        version: raised when numbers change; stores of another version are refused.
        cost: seconds of the `small` scale on a named machine.
        tolerance: what the verdict rests on, a sentence with its frozen bands.
        undefined: names of values that may be NaN, where a cell has none; all others must be
            finite.

    """

    title: str
    statement: str
    kind: Kind
    cites: tuple[str, ...]
    answers: tuple[str, ...]
    assumptions: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    presets: Mapping[str, Mapping[str, tuple[Value, ...]]]
    controls: tuple[Control, ...]
    shape: tuple[str, ...] = ()
    group: int = 64
    version: int = 1
    cost: str = ""
    tolerance: str = ""
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What a claim's rule says about measured and predicted numbers.

    Attributes:
        state: supported, refuted, inconclusive or not applicable.
        sentence: why, one full sentence with its numbers.
        numbers: name to the estimates the verdict rests on.

    """

    state: State
    sentence: str
    numbers: Mapping[str, Estimate] = field(default_factory=dict)


Values = Mapping[str, "float | np.ndarray[Any, Any]"]
"""What one cell predicts or measures: numbers and small arrays by name, the same names and shapes
for all cells of a claim."""


class ClaimModule(Protocol):
    """What a claim's file holds beside `CLAIM`."""

    CLAIM: Claim

    def predict(self, cells: Sequence[Cell]) -> Sequence[Values]:
        """Return what the theory says, from parameters, data and start, before any training."""

    def experiment(self, cells: Sequence[Cell]) -> Sequence[Values]:
        """Run all cells of a group, and return what was measured."""

    def judge(self, measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
        """Judge tables over the grid's parameters and `seed`."""

    def draw(self, figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
        """Draw the prediction over the measured points and their intervals."""


@dataclass(frozen=True)
class Cell:
    """One point of a grid: parameters and a seed.

    Attributes:
        claim: id of the claim.
        version: its version.
        parameters: name to value, all of them.
        seed: number of the repetition, from 0.

    """

    claim: str
    version: int
    parameters: Mapping[str, Value]
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, (self.claim, self.version, dict(self.parameters), self.seed)

    @property
    def key(self) -> str:
        """What the cell is, as canonical JSON; the same bytes on every machine."""
        content = {"parameters": dict(self.parameters), "seed": self.seed}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def seed_for(self, *purpose: str | int, shared: Iterable[str] = ()) -> int:
        """Return the seed of a random stream of this cell.

        Args:
            purpose: what is drawn, such as `"data"`.
            shared: parameters the stream must not depend on, so that cells that differ in them
                alone draw the same numbers.

        """
        kept = {n: v for n, v in self.parameters.items() if n not in set(shared)}
        about = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return seed_from("claim", self.claim, self.version, about, self.seed, *purpose)

    def number(self, name: str) -> float:
        """Return a numerical parameter."""
        value = self.parameters[name]
        if isinstance(value, str):
            raise TypeError(f"{name} is {value!r}, no number")
        return value


@dataclass(frozen=True)
class Grid:
    """All cells of a run: the values of each parameter, and the number of seeds.

    Attributes:
        claim: id of the claim.
        version: its version.
        axes: parameter to its values, in the order of the claim.
        seeds: repetitions.
        first_seed: number of the first of them; bands that were chosen on some seeds are judged
            on others.

    """

    claim: str
    version: int
    axes: Mapping[str, tuple[Value, ...]]
    seeds: int
    first_seed: int = 0

    @property
    def seed_numbers(self) -> range:
        """The numbers of the repetitions."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def cells(self) -> list[Cell]:
        """Return all cells in canonical order: parameters as the claim lists them, then seeds."""
        names = list(self.axes)
        return [
            Cell(self.claim, self.version, dict(zip(names, values, strict=True)), seed)
            for values in product(*self.axes.values())
            for seed in self.seed_numbers
        ]

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.axes.values()) * self.seeds

    def under(self, control: Control) -> Grid:
        """Return the same grid with a control's parameter set."""
        axes = {**self.axes, control.parameter: (control.value,)}
        return replace(self, axes=axes)


MOST_CELLS: Final = 10**8
"""Of one grid; more cannot be listed in memory."""


def grid_of(
    name: str,
    claim: Claim,
    scale: str = "small",
    changes: Mapping[str, Sequence[Value]] | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
) -> Grid:
    """Return the grid of a preset, with some of its axes replaced.

    Args:
        name: id of the claim.
        claim: its metadata.
        scale: one of its presets.
        changes: parameter to values.
        seeds: repetitions; those of the preset by default.
        first_seed: number of the first repetition.

    Raises:
        InputError: an unknown scale or parameter, or a value out of its range; the sentence
            names the claim's parameters and their ranges.

    """
    if scale not in claim.presets:
        raise InputError("scale", repr(scale), "one of " + ", ".join(claim.presets))
    preset = claim.presets[scale]
    known = {parameter.name: parameter for parameter in claim.parameters}
    for wanted in changes or {}:
        if wanted not in known:
            raise InputError(wanted, "a parameter this claim does not have", _ranges(claim))
    axes = {}
    for parameter in claim.parameters:
        values = (changes or {}).get(parameter.name) or preset.get(parameter.name)
        axes[parameter.name] = _checked(parameter, values or parameter.choices[:1], claim)
    count = seeds if seeds is not None else int(preset["seeds"][0])
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 10**6:
        raise InputError("seeds", repr(count), "a whole number from 1 to 1,000,000")
    first = first_seed
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first <= 10**9:
        raise InputError("first_seed", repr(first), "a whole number from 0 to 1,000,000,000")
    grid = Grid(name, claim.version, axes, count, first)
    if len(grid) > MOST_CELLS:
        raise InputError("grid", f"{len(grid):,} cells", f"at most {MOST_CELLS:,}")
    return grid


def _checked(parameter: Parameter, values: Sequence[Value], claim: Claim) -> tuple[Value, ...]:
    """Return the values of an axis in the parameter's type, each once, in the given order."""
    found: dict[Value, None] = {}
    for value in values:
        sound = _sound(parameter, value)
        if sound is None:
            raise InputError(parameter.name, f"{value!r:.40}", _ranges(claim))
        found[sound] = None
    if not found:
        raise InputError(parameter.name, "no value", _ranges(claim))
    return tuple(found)


def _sound(parameter: Parameter, value: Value) -> Value | None:
    if parameter.kind == "choice":
        return value if value in parameter.choices else None
    if isinstance(value, bool | str) or not parameter.low <= value <= parameter.high:
        return None
    if not abs(value) < 2**63 or (parameter.kind == "int" and value != int(value)):
        return None
    return int(value) if parameter.kind == "int" else float(value)


def _ranges(claim: Claim) -> str:
    return "; ".join(_range(parameter) for parameter in claim.parameters)


def _range(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        return f"{parameter.name}: {' or '.join(parameter.choices)}"
    ends = (f"{end:g}" for end in (parameter.low, parameter.high))
    word = "a whole number" if parameter.kind == "int" else "a number"
    return f"{parameter.name}: {word} from {' to '.join(ends)}"
