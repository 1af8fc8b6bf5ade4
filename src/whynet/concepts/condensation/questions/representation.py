"""What did its features become?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.condensation import figures
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.plain_text import layer_name
from whynet.core.question import Assumption, Cell, Figure, Panel, Question, Results, Table

QUESTION = Question(
    title="What did its features become?",
    short="Features",
    uses=("representation",),
    may_use=("effective-dimension",),
    references=("representation", "effective-dimension"),
    order=52,
)

SPOKEN = 0.001
"""Weight decay at which the lead gives the effective dimension."""

SPLITS = {"train": "training data", "test": "unseen data"}
COLLAPSE = ("nc1", "nc2_norms", "nc2_angles", "nc3_alignment")
MOST_ROWS = 14


def ask(results: Results) -> Panel:
    """Put rank and collapse of the features beside those of the network before training.

    There is no finding: collapse on unseen data says less about what to do next than the scores
    do, and ranks of weights have no good value of their own.
    """
    measured: Measurement = results.measured["representation"]
    initial: Measurement | None = results.initial.get("representation")
    dimensions = tuple(m.get("effective-dimension") for m in (results.measured, results.initial))
    return Panel(
        lead=_lead(measured, initial) + _determined(*dimensions),
        method="Features are what the last linear layer reads. Within- and between-class "
        "covariances weigh all classes alike; bars are delete-group jackknife intervals, and "
        "ranks of weights are exact.",
        figures=_figures(measured, initial),
        tables=(*_tables(measured, initial), *_dimensions(*dimensions)),
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption(
                "It was measured before training too", "met" if initial is not None else "not met"
            ),
        ),
    )


def _known(measured: Measurement | None, name: str, split: str) -> Estimate | None:
    if measured is None or name not in measured.names:
        return None
    if split not in measured.dataset["split"].values:
        return None
    found = measured.estimate(name, split=split)
    return found if np.isfinite(found.value) else None


def _lead(measured: Measurement, initial: Measurement | None) -> str:
    rank, before = (_known(m, "feature_rank", "test") for m in (measured, initial))
    if rank is None:
        return "Its features do not differ between examples of the test data."
    text = f"On unseen data its features spread over {format_interval(rank)} directions"
    text += f"; before training over {format_interval(before)}." if before is not None else "."
    inside, was = (_known(m, "nc1", "test") for m in (measured, initial))
    if inside is not None:
        text += (
            f" Variability inside classes, relative to that between them, is "
            f"{format_interval(inside)} there"
        )
        train = _known(measured, "nc1", "train")
        text += f", {format_interval(train)} on the training data" if train is not None else ""
        text += f", and was {format_interval(was)} before training." if was is not None else "."
    return text


def _determined(measured: Measurement | None, initial: Measurement | None) -> str:
    """Say how many directions of weight space the data determine, beside all of them."""
    found = _dimension(measured, "effective_dimension", decay=SPOKEN)
    if measured is None or found is None:
        return ""
    count = int(measured.estimate("parameters").value)
    before = _dimension(initial, "effective_dimension", decay=SPOKEN)
    return (
        f" At a weight decay of {SPOKEN:g} the training data determine {format_interval(found)} of "
        f"{count:,} directions of its weights"
        + (f"; before training {format_interval(before)}." if before is not None else ".")
    )


def _dimension(measured: Measurement | None, name: str, **label: float) -> Estimate | None:
    if measured is None:
        return None
    found = measured.estimate(name, **label)
    return found if np.isfinite(found.value) else None


def _dimensions(measured: Measurement | None, initial: Measurement | None) -> tuple[Table, ...]:
    """Put the effective dimension at every ridge beside that before training."""
    if measured is None:
        return ()
    sources = (measured,) if initial is None else (measured, initial)
    rows: list[tuple[Cell, ...]] = []
    for name, axis, words in (
        ("effective_dimension", "decay", "α = {:g}"),
        ("relative", "share", "α = {:g} of the largest eigenvalue"),
    ):
        for label in (float(value) for value in measured.dataset[axis].values):
            found = [_dimension(source, name, **{axis: label}) for source in sources]
            rows.append((words.format(label), *(known or "unknown" for known in found)))
    largest = [_dimension(source, "largest") for source in sources]
    rows.append(("largest eigenvalue", *(known or "unknown" for known in largest)))
    count = int(measured.estimate("parameters").value)
    return (
        Table(
            ("effective dimension", "now", "at initialization")[: 1 + len(sources)],
            tuple(rows),
            f"tr G(G + αI)⁻¹ of the Gauss-Newton matrix G of the training loss, of {count:,} "
            "parameters: directions of weight space that the data determine more strongly than a "
            "weight decay of α would. Where the loss is nearly zero, G is small.",
        ),
    )


def _rows(measured: Measurement, initial: Measurement | None) -> list[tuple[str, Estimate, bool]]:
    """Return the within-class variability of each split, then of the network before training."""
    rows = []
    for source, word in ((measured, ""), (initial, "at initialization")):
        for split, name in SPLITS.items():
            found = _known(source, "nc1", split)
            if found is not None:
                label = f"{name}, {word}" if word else name
                rows.append((label, found, not word))
    return rows


def _figures(measured: Measurement, initial: Measurement | None) -> tuple[Figure, ...]:
    drawn = []
    rows = _rows(measured, initial)
    if rows:
        drawn.append(
            Figure(
                "representation-collapse",
                partial(figures.log_forest, rows=rows, label="variability inside classes (NC1)"),
                "Variability inside classes relative to that between them; 0 is full collapse. "
                "Bars: 95 % over examples.",
                "; ".join(f"{name} {format_interval(found)}" for name, found, _ in rows),
                height=0.75 + 0.31 * len(rows),
            )
        )
    layers = [] if "stable_rank" not in measured.names else _layers(measured, initial)
    if layers:
        drawn.append(
            Figure(
                "representation-stable-ranks",
                partial(figures.stable_ranks, rows=layers),
                "Stable rank of each weight matrix. "
                + ("" if initial is None else "Diamonds: before training. ")
                + f"At most {MOST_ROWS} layers are drawn.",
                "; ".join(f"{name}: {now:.3g}" for name, now, _ in layers),
                height=0.95 + 0.3 * len(layers),
            )
        )
    return tuple(drawn)


def _layers(
    measured: Measurement, initial: Measurement | None
) -> list[tuple[str, float, float | None]]:
    """Return name, stable rank and the same before training of at most so many layers."""
    names = [str(name) for name in measured.dataset["layer"].values]
    if len(names) > MOST_ROWS:
        places = np.linspace(0, len(names) - 1, MOST_ROWS).round().astype(int)
        names = [names[place] for place in places]
    rows = []
    for name in names:
        now = measured.estimate("stable_rank", layer=name).value
        if np.isfinite(now):
            rows.append((layer_name(name), now, _before(initial, "stable_rank", name)))
    return rows


def _before(initial: Measurement | None, quantity: str, layer: str) -> float | None:
    if initial is None or quantity not in initial.names:
        return None
    if layer not in initial.dataset["layer"].values:
        return None
    value = initial.estimate(quantity, layer=layer).value
    return value if np.isfinite(value) else None


def _tables(measured: Measurement, initial: Measurement | None) -> tuple[Table, ...]:
    words = {
        "feature_rank": "effective rank of the features",
        "nc1": "variability inside classes (NC1)",
        "nc2_norms": "unequal lengths of class means (NC2)",
        "nc2_angles": "unequal angles of class means (NC2)",
        "nc3_alignment": "last layer aligned with class means (NC3)",
    }
    sources = (measured,) if initial is None else (measured, initial)
    rows: list[tuple[Cell, ...]] = []
    for name, word in words.items():
        cells = [_known(source, name, split) for source in sources for split in SPLITS]
        if any(cell is not None for cell in cells):
            rows.append((word, *(cell if cell is not None else "unknown" for cell in cells)))
    before = tuple(f"{split}, at initialization" for split in SPLITS.values())
    columns = ("number", *SPLITS.values(), *(before if initial is not None else ()))
    tables = []
    if rows:
        tables.append(
            Table(columns, tuple(rows), "Full collapse is 0 for NC1 and NC2, and 1 for NC3.")
        )
    if "stable_rank" in measured.names:
        tables.append(_weights(measured, initial))
    return tuple(tables)


def _weights(measured: Measurement, initial: Measurement | None) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in (str(layer) for layer in measured.dataset["layer"].values):
        cells: list[Cell] = [layer_name(name)]
        for quantity in ("stable_rank", "spectral_norm"):
            now = measured.estimate(quantity, layer=name)
            cells.append(now if np.isfinite(now.value) else "unknown")
            if initial is not None:
                before = _before(initial, quantity, name)
                cells.append(
                    "unknown" if before is None else Estimate(before, before, before, "exact")
                )
        rows.append(tuple(cells))
    columns_before = () if initial is None else ("at initialization",)
    return Table(
        ("layer", "stable rank", *columns_before, "spectral norm", *columns_before),
        tuple(rows),
        "Stable rank: squared Frobenius norm over squared spectral norm. A convolution counts as "
        "the matrix from the patch it reads to its channels.",
    )
