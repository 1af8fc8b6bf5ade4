"""Eigenvalues of the tangent kernel, where they come from, and how they lie to the targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.concepts.kernels.linearized import Scored, scored_rows, stratified
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.derivatives.ntk_of_rows import ntk_traces
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.scores import has_one_label
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics import kernel_matrices as matrices

INSTRUMENT = Instrument(
    title="spectrum of the neural tangent kernel, its layers, and its fit to the targets",
    unit="",
    needs=("train-data", "deterministic", "trainable"),
    cost="the kernel of up to 1,024 training rows: seconds for small networks",
    cites=("jacot2018", "cortes2012"),
    closed_form="relu-kernel",
    rounds=40,
    draws=True,
)

DRAWN, DRAWS = 256, 30
"""Rows of a draw; draws of a round."""

SIZES = (1024, 512, 256)
"""Training rows that draws are taken from, as many as are affordable."""

CHEAP, MOST = 1e11, 1e12
"""Multiplications up to which rows are added, and beyond which the kernel is refused."""

GRADIENT = 1e7
"""Multiplications that one gradient of one row counts for, where they are taken one by one."""

LARGEST = 5
"""Eigenvalues that are named."""

DECADES = 12.0
"""Largest logarithm of a condition: beyond, the least eigenvalue is round-off."""

COLUMNS = ("centered", "uncentered")


@dataclass(frozen=True)
class State:
    """The network in float64, its kernel on the rows, and the numbers of the draws.

    Attributes:
        network: in float64.
        plan: how its kernel is computed.
        rows: scored training rows that draws are taken from.
        raw: `[rows, classes]`, targets that are not centered: one-hot labels, or real targets.
        kernel: `[rows, rows]`, averaged over outputs; None before the first round.
        layers: names; `traces` `[rows, layers]`, what each adds to a row's kernel with itself.
        draws: `[draws, numbers]`, see `_numbers`.

    """

    network: Subject
    plan: NtkPlan
    seed: int
    rows: Scored
    raw: np.ndarray
    kernel: np.ndarray | None = None
    layers: tuple[str, ...] = ()
    traces: np.ndarray | None = None
    draws: np.ndarray | None = None
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Choose the rows, and refuse what has no targets to compare with or is too large."""
    if subject.loss.task == "other":
        return NotApplicable("This does not apply: the loss is neither of classes nor of squares.")
    if subject.loss.task != "regression" and not has_one_label(
        subject.loss, subject.outputs("train")[0]
    ):
        return NotApplicable("This does not apply: an example carries more than one label.")
    network = subject.in_precision(torch.float64)
    train = scored_rows(network, "train")
    if len(train.rows) < 10:
        return NotApplicable("This does not apply: fewer than 10 training rows are scored.")
    if not (np.ptp(train.targets, axis=0) > 0).any():
        return NotApplicable("This does not apply: the targets of the training data are equal.")
    few = network.examples("train").take(train.rows[:3], dtype=torch.float64)[0]
    plan = plan_ntk(network, few)
    size = _affordable(plan, len(train.rows))
    if size is None:
        return NotApplicable(
            "This does not apply: outputs times parameters are too many for the kernel of "
            f"{DRAWN} rows (about {MOST:.0e} multiplications are allowed)."
        )
    generator = np.random.default_rng(seed_from("kernel-spectrum", seed, "rows"))
    train = train.at(stratified(train, size, generator))
    return State(network, plan, seed, train, _raw(train))


def _affordable(plan: NtkPlan, rows: int) -> int | None:
    for size in dict.fromkeys(min(rows, most) for most in SIZES):
        slow = 0.0 if plan.batched or not plan.rest else GRADIENT * plan.outputs * size
        cost = float(size) ** 2 * plan.pair_work + slow
        if cost <= (MOST if size <= SIZES[-1] else CHEAP):
            return size
    return None


def _raw(train: Scored) -> np.ndarray:
    if train.labels is None:
        return train.targets
    _, places = np.unique(train.labels, return_inverse=True)
    return np.eye(int(places.max()) + 1)[places]


def advance(state: State) -> State:
    """Compute the kernel once, then draw rows."""
    state = state if state.kernel is not None else _computed(state)
    assert state.kernel is not None
    assert state.traces is not None
    drawn = []
    for number in range(DRAWS):
        generator = np.random.default_rng(
            seed_from("kernel-spectrum", state.seed, state.rounds, number)
        )
        places = stratified(state.rows, DRAWN, generator)
        order = generator.permutation(len(places))
        drawn.append(_numbers(state, places, order))
        if len(state.rows.rows) <= DRAWN and number:
            # only the shuffle differs from here on
            drawn[-1][: -len(COLUMNS)] = drawn[0][: -len(COLUMNS)]
    found = np.array(drawn)
    draws = found if state.draws is None else np.concatenate([state.draws, found])
    return replace(state, draws=draws, rounds=state.rounds + 1)


def _computed(state: State) -> State:
    network = state.network
    inputs = network.examples("train").take(
        state.rows.rows, device=network.device, dtype=network.dtype
    )[0]
    kernel = empirical_ntk(network, inputs, plan=state.plan).cpu().numpy()
    by_layer: dict[str, np.ndarray] = {}
    for name, values in ntk_traces(network, inputs, plan=state.plan).items():
        layer = name.rpartition(".")[0] or name
        by_layer[layer] = by_layer.get(layer, 0.0) + values.cpu().numpy()
    order = list(dict.fromkeys(name.rpartition(".")[0] or name for name in network.parameters))
    layers = tuple(layer for layer in order if layer in by_layer)
    traces = np.stack([by_layer[layer] for layer in layers], axis=1)
    return replace(state, kernel=kernel, layers=layers, traces=traces)


def _numbers(state: State, places: np.ndarray, order: np.ndarray) -> list[float]:
    """Return eigenvalues, rank, condition, layers' shares, alignments, shuffled alignments."""
    assert state.kernel is not None
    assert state.traces is not None
    kernel = state.kernel[np.ix_(places, places)]
    targets, raw = state.rows.targets[places], state.raw[places]
    values = np.linalg.eigvalsh(kernel)[::-1] / len(kernel)
    least = max(values[-1], 10.0**-DECADES * values[0])
    traces = state.traces[places].sum(0)
    total = traces.sum()
    middle = matrices.centered(kernel)
    return [
        *values[:LARGEST],
        matrices.participation(kernel),
        float(np.log10(values[0] / least)) if values[0] > 0 else np.nan,
        *(traces / total if total > 0 else np.full(len(traces), np.nan)),
        matrices.alignment(middle, targets),
        matrices.raw_alignment(kernel, raw),
        matrices.alignment(middle, targets[order]),
        matrices.raw_alignment(kernel, raw[order]),
    ]


def read(state: State) -> Measurement:
    """Return the spectrum, the layers' shares and the alignments."""
    count = len(state.layers)
    ends = np.cumsum([LARGEST, 1, 1, count, len(COLUMNS), len(COLUMNS)])
    starts = [0, *ends[:-1]]
    columns = [range(a, b) for a, b in zip(starts, ends, strict=True)]

    def many(group: int, how: str, unit: str = "", shuffled: bool = False) -> list[Estimate]:
        return [_estimate(state, column, how, unit, shuffled) for column in columns[group]]

    aligned = "alignment of kernel and targets, centered on both sides or not"
    zero = "the kernel is zero on the rows"
    quantities = {
        "eigenvalue": Quantity.stacked(many(0, "eigenvalues over the number of rows"), "rank"),
        "effective_rank": Quantity.from_estimate(
            many(1, "squared trace over squared norm, at most the number of rows")[0]
        ),
        "log10_condition": Quantity.from_estimate(
            many(2, "log₁₀ of largest over least eigenvalue; 12 where that is round-off")[0]
        ),
        "layer_share": Quantity.stacked(
            many(3, "share of a layer's parameters in the trace", "fraction"), "layer"
        ),
        "alignment": Quantity.stacked(many(4, aligned), "kernel"),
        "shuffled_alignment": Quantity.stacked(
            many(5, f"{aligned}; targets shuffled", shuffled=True), "kernel"
        ),
    }
    quantities = {name: replace(value, missing=zero) for name, value in quantities.items()}
    total = state.network.examples("train").count
    return Measurement.of(
        quantities,
        coords={
            "rank": list(range(1, LARGEST + 1)),
            "layer": list(state.layers),
            "kernel": list(COLUMNS),
        },
        cites=INSTRUMENT.cites,
        notes=(
            "The kernel is averaged over the outputs, on "
            f"{min(DRAWN, len(state.rows.rows))} training rows at a time, drawn from "
            f"{len(state.rows.rows):,} of {total:,}; eigenvalues depend on that number.",
        ),
        check="Kernel against plain autograd on three rows: largest miss "
        f"{state.plan.miss:.0e} of the largest mixture.",
    )


def _estimate(state: State, column: int, how: str, unit: str, shuffled: bool) -> Estimate:
    assert state.draws is not None
    values = state.draws[:, column]
    everything = len(state.rows.rows) <= DRAWN
    over = "shuffles" if everything else f"draws of {DRAWN} training rows"
    if not np.isfinite(values).all():
        return Estimate(np.nan, np.nan, np.nan, "indicative", 0.95, unit, how, over)
    if everything and not shuffled:
        one = float(values[0])
        return Estimate(one, one, one, "exact", 0.95, unit, how, "the training data")
    return intervals.mean_t(values, unit=unit, how=how, over=over)
