"""The shape of a question: which instruments it uses, and the panel it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from whynet.core.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as MatplotlibFigure

    from whynet.core.measurement import Measurement


@dataclass(frozen=True)
class Question:
    """What the registry knows of a question without importing its file (all literals).

    Attributes:
        title: the question as a person would ask it.
        short: one or two words for the navigation of the report.
        uses: instruments it cannot do without; where one does not apply, the panel does not. Where
            there are none, it needs one of those that it may use.
        may_use: instruments whose results enrich the panel where they exist.
        references: those of its instruments that are also measured on reference networks: this
            one before training, one trained on shuffled labels, and other seeds, where known.
        order: position of the panel in the report, small first.

    """

    title: str
    short: str
    uses: tuple[str, ...]
    may_use: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    order: int = 100


@dataclass(frozen=True)
class Reference:
    """What a number is held against: a cheap baseline, the same network before training…

    Attributes:
        name: how the reference is called on the strip, two or three words.
        low: lower end of its band.
        high: upper end of its band.

    """

    name: str
    low: float
    high: float


UNTRAINED, SHUFFLED, SEEDS = "at initialization", "shuffled labels", "other seeds"
"""How the reference networks are called wherever a number stands beside theirs."""


@dataclass(frozen=True)
class Finding:
    """One sentence a person would act on, with the number that carries it.

    A finding is made only where the number leaves the band of its references, or where the
    reader would act on it all the same; what any network would show belongs in a panel.

    Texts may mark numbers with `**…**` (bold) and commands with backquotes.

    Attributes:
        key: stable key in `summary.json`, `snake_case`.
        headline: the sentence.
        numbers: the numbers behind it, one or two sentences.
        advice: what to do.
        estimate: the number that stands on the strip.
        label: name of that number, two or three words.
        references: what it is held against on the strip.
        axis: ends of the strip's axis; None lets the report choose.
        importance: 0 to 1; findings are ordered by it.
        instrument: id of the instrument whose receipt stands beside the finding.
        cites: keys of `references.bib`.
        read: reads the same number from the measurement of `instrument` on another network, so
            that the reference networks' stand beside it; None where it is this network's alone.
        regardless: whether a reader would act on it even where an untrained network, or one
            trained on shuffled labels, shows the same: a warning, never a praise.

    """

    key: str
    headline: str
    numbers: str
    advice: str
    estimate: Estimate
    label: str
    importance: float
    instrument: str
    references: tuple[Reference, ...] = ()
    axis: tuple[float, float] | None = None
    cites: tuple[str, ...] = ()
    read: Callable[[Measurement], Estimate] | None = None
    regardless: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture: a function that draws on an empty matplotlib figure, and its words.

    Attributes:
        name: file name without suffix, `kebab-case`, unique in a report.
        draw: draws on the figure it is given; data in, axes out.
        caption: what is drawn, and over what the bars are.
        alt: what a reader who cannot see the picture should know.
        height: height in inches at a width of 5.4 inches.

    """

    name: str
    draw: Callable[[MatplotlibFigure], None]
    caption: str
    alt: str
    height: float = 2.7


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """A small table of a panel; estimates are written with their intervals."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Assumption:
    """What a number of the panel rests on, and whether that holds here."""

    text: str
    status: Literal["met", "not met", "cannot be checked"]


@dataclass(frozen=True)
class Panel:
    """The answer to a question: words, pictures, tables, assumptions and findings.

    Attributes:
        lead: the answer in two or three sentences.
        method: how it was measured, one or two sentences.
        figures: one or two.
        tables: the numbers behind the figures.
        assumptions: what they rest on.
        findings: what the first screen may print of it.

    """

    lead: str
    method: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


@dataclass(frozen=True)
class SubjectFacts:
    """What a question may know of the network and its data; plain numbers and words.

    Attributes:
        name: how the user calls the network (foreign text, never trusted).
        architecture: one phrase such as `64–128–10 ReLU network` (may hold foreign text).
        parameters: number of scalar parameters, tied ones counted once.
        trainable: those with `requires_grad`.
        task: `classification`, `binary classification`, `regression` or `other`.
        classes: number of classes, 0 where the task has none.
        train_examples: rows of training data, 0 where there are none.
        test_examples: rows of test data.
        input_shape: shape of one input, without the batch axis; () where inputs are structured.
        loss: name of the loss.
        notes: what was done to model or data on the way in, full sentences.

    """

    name: str
    architecture: str
    parameters: int
    trainable: int
    task: str
    classes: int
    train_examples: int
    test_examples: int
    input_shape: tuple[int, ...]
    loss: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """What the instruments returned, handed to `ask`.

    Attributes:
        facts: the network and its data.
        measured: instrument id to measurement; only those that applied and finished.
        initial: the same for the network at initialization; empty where it is unknown.
        shuffled: the same for a network trained on shuffled labels; empty where there is none.
        seeds: the same for networks trained from other seeds.
        inapplicable: instrument id to why it does not apply.

    """

    facts: SubjectFacts
    measured: dict[str, Any]
    initial: dict[str, Any] = field(default_factory=dict)
    shuffled: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[dict[str, Any], ...] = ()
    inapplicable: dict[str, str] = field(default_factory=dict)
