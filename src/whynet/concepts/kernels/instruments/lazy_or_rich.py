"""How far the kernel moved in training, and what the network linearized at its start reaches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.concepts.kernels.linearized import (
    Linearized,
    Scored,
    compare,
    linearized,
    scored_rows,
    stratified,
)
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.retraining import Diverged, Variation
from whynet.models.scores import has_one_label
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics import kernel_matrices as matrices

INSTRUMENT = Instrument(
    title="drift of the neural tangent kernel, and the network linearized at its start",
    unit="fraction",
    needs=("train-data", "test-data", "initialization", "deterministic", "trainable"),
    cost="kernels before and after training on up to 1,500 rows: seconds for small networks; "
    "and one training run where a training function is known",
    cites=("jacot2018", "chizat2019", "cortes2012", "kornblith2019"),
    closed_form="relu-kernel",
    rounds=40,
    draws=True,
)

DRAWN = 256
"""Rows of a draw."""

SUBMATRICES, SEPARATE = 30, 5
"""Draws of a round: cut from one kernel of all rows, or each with kernels of its own."""

MOST_ROWS = 1500
"""Training rows of the kernel regression, and test rows it is judged on."""

CHEAP, MOST = 3e11, 2e12
"""Multiplications of a first round: up to which rows are added, and what is refused."""

GRADIENT = 1e7
"""Multiplications that one gradient of one row counts for, where they are taken one by one."""

COLUMNS = ("now", "initialization")

OTHER_SEEDS = (1, 2)
"""Seeds that another network is trained from; the second where the first gives this very one."""


@dataclass(frozen=True)
class State:
    """Both networks in float64, the rows in use, and what the rounds found.

    Attributes:
        subject: the network as it was given.
        plans: how to compute the kernels now and at initialization.
        rows: scored training rows; `fitted` those of the kernel regression, `tested` test rows.
        whole: whether the kernel after training is computed on all training rows at once.
        kernels: of all training rows, now and at initialization, once a round has run; None
            where it is not.
        fit: the linearized network, once a round has run.
        other: outputs of another seed on the test data; None where it cannot be trained.
        diverged: whether another seed was trained and ended in numbers that are not finite.
        draws: `[draws, 6]`: shape drift, trace ratio, alignment and shuffled alignment, now and
            at initialization.

    """

    subject: Subject
    networks: tuple[Subject, Subject]
    plans: tuple[NtkPlan, NtkPlan]
    seed: int
    train: Scored
    fitted: np.ndarray
    test: Scored
    whole: bool
    kernels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    fit: Linearized | None = None
    other: np.ndarray | None = None
    diverged: bool = False
    draws: np.ndarray | None = None
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Choose the rows, and refuse what has no kernel that can be compared or afforded."""
    if subject.loss.task == "other":
        return NotApplicable("This does not apply: the loss is neither of classes nor of squares.")
    if subject.loss.task != "regression" and not has_one_label(
        subject.loss, subject.outputs("test")[0]
    ):
        return NotApplicable("This does not apply: an example carries more than one label.")
    initial = subject.initial
    if initial is None:
        return NotApplicable(
            "This does not apply: batch normalization at initialization could not be recalibrated "
            "on the training data, so that the network before training is not known."
        )
    networks = subject.in_precision(torch.float64), initial.in_precision(torch.float64)
    train, test = (scored_rows(networks[0], split) for split in ("train", "test"))
    if min(len(train.rows), len(test.rows)) < 10:
        return NotApplicable("This does not apply: fewer than 10 rows of a split are scored.")
    for values, name in ((train.targets, "training"), (test.targets, "test")):
        if not (np.ptp(values, axis=0) > 0).any():
            return NotApplicable(f"This does not apply: the targets of the {name} data are equal.")
    generator = np.random.default_rng(seed_from("lazy-or-rich", seed, "test rows"))
    if len(test.rows) > MOST_ROWS:
        test = test.at(np.sort(generator.permutation(len(test.rows))[:MOST_ROWS]))
    few = networks[0].examples("train").take(train.rows[:3], dtype=torch.float64)[0]
    plans = plan_ntk(networks[0], few), plan_ntk(networks[1], few)
    size = _affordable(plans, len(train.rows), len(test.rows))
    if size is None:
        return NotApplicable(
            "This does not apply: outputs times parameters are too many for the kernels of "
            f"{DRAWN} rows (about {MOST:.0e} multiplications are allowed)."
        )
    fitted = stratified(train, size, generator)
    cost = _cost(plans[1], size, size + len(test.rows)) + _cost(plans[0], size, size)
    whole = size == len(train.rows) and (cost <= CHEAP or size <= DRAWN)
    return State(subject, networks, plans, seed, train, fitted, test, whole)


def _affordable(plans: tuple[NtkPlan, NtkPlan], rows: int, tested: int) -> int | None:
    """Return how many training rows the kernel regression may have; None where not even 256."""
    least = min(DRAWN, rows)
    for size in dict.fromkeys((min(rows, MOST_ROWS), min(rows, 1024), min(rows, 512), least)):
        cost = _cost(plans[1], size, size + tested)
        cost += SEPARATE * _cost(plans[0], least, least)
        cost += SEPARATE * _cost(plans[1], least, least) * (size < rows)
        if cost <= (MOST if size == least else CHEAP):
            return size
    return None


def _cost(plan: NtkPlan, rows: int, columns: int) -> float:
    one_by_one = 0.0 if plan.batched or not plan.rest else GRADIENT * plan.outputs
    return 2.0 * rows * columns * plan.pair_work + one_by_one * (rows + columns)


def advance(state: State) -> State:
    """Fit the linearized network and train another seed once, then draw rows."""
    if state.rounds == 0:
        state = _with_other_seed(_fit(state))
    drawn = []
    for number in range(SUBMATRICES if state.whole else SEPARATE):
        generator = np.random.default_rng(
            seed_from("lazy-or-rich", state.seed, state.rounds, number)
        )
        places = stratified(state.train, DRAWN, generator)
        now, before = (_kernel(state, which, places) for which in (0, 1))
        order = generator.permutation(len(places))
        drawn.append(_numbers(now, before, state.train.targets[places], order))
    found = np.array(drawn)
    draws = found if state.draws is None else np.concatenate([state.draws, found])
    return replace(state, draws=draws, rounds=state.rounds + 1)


def _numbers(
    now: np.ndarray, before: np.ndarray, targets: np.ndarray, order: np.ndarray
) -> list[float]:
    trace = float(np.trace(before))
    one, two = matrices.centered(now), matrices.centered(before)
    return [
        1 - matrices.similarity(one, two),
        float(np.trace(now)) / trace if trace > 0 else float("nan"),
        *(matrices.alignment(kernel, targets) for kernel in (one, two)),
        *(matrices.alignment(kernel, targets[order]) for kernel in (one, two)),
    ]


def _kernel(state: State, which: int, places: np.ndarray) -> np.ndarray:
    """Return the kernel of some training rows, cut from that of all of them where it is there."""
    whole = state.kernels[which]
    if whole is not None:
        return np.asarray(whole[np.ix_(places, places)])
    inputs = _inputs(state.networks[which], "train", state.train.rows[places])
    return np.asarray(empirical_ntk(state.networks[which], inputs, plan=state.plans[which]).cpu())


def _inputs(network: Subject, split: str, rows: np.ndarray) -> object:
    data = network.examples("train" if split == "train" else "test")
    return data.take(rows, device=network.device, dtype=network.dtype)[0]


def _fit(state: State) -> State:
    """Compute the kernels that all rounds share, and the linearized network."""
    before, plan = state.networks[1], state.plans[1]
    chosen = state.fitted
    inputs = _inputs(before, "train", state.train.rows[chosen])
    tested = _inputs(before, "test", state.test.rows)
    fit, kernel = linearized(before, plan, (inputs, tested), state.train.at(chosen), state.test)
    if len(chosen) < len(state.train.rows):
        return replace(state, fit=fit)
    return replace(
        state, fit=fit, kernels=(_kernel(state, 0, chosen) if state.whole else None, kernel)
    )


def _with_other_seed(state: State) -> State:
    """Train the network again from another seed, where a training function is known."""
    if state.subject.trainer is None:
        return state
    own = state.networks[0].outputs("test")[0].numpy()
    found = own
    for seed in OTHER_SEEDS:
        try:
            other = state.subject.retrained(Variation(seed=seed))
        except Diverged:
            return replace(state, diverged=True)
        found = other.in_precision(torch.float64).outputs("test")[0].numpy()
        if not np.isfinite(found).all():
            return replace(state, diverged=True)
        if not np.array_equal(found, own):
            break
    return replace(state, other=found)


def read(state: State) -> Measurement:
    """Return drift, scale and alignment of the kernel, and scores of the linearized network."""
    assert state.fit is not None
    quantities, models = compare(state.subject, state.networks, state.fit, state.test, state.other)
    return Measurement.of(
        _drawn(state) | quantities | {"fitted_share": _share(state)},
        coords={"weights": list(COLUMNS), "model": list(models)},
        cites=INSTRUMENT.cites,
        notes=_notes(state, state.fit),
        check="Kernels against plain autograd on three rows: largest miss "
        f"{max(plan.miss for plan in state.plans):.0e} of the largest entry.",
    )


def _share(state: State) -> Quantity:
    return Quantity(
        len(state.fitted) / len(state.train.rows),
        unit="fraction",
        how="share of the training rows that the linearized network was fitted to",
    )


def _drawn(state: State) -> dict[str, Quantity]:
    assert state.draws is not None
    everything = len(state.train.rows) <= DRAWN
    over = "shuffles" if everything else f"draws of {DRAWN} training rows"

    def estimate(column: int, how: str, unit: str = "", shuffled: bool = False) -> Estimate:
        values = state.draws[:, column]  # type: ignore[index]
        if not np.isfinite(values).all():
            return Estimate(np.nan, np.nan, np.nan, "indicative", 0.95, unit, how, over)
        if everything and not shuffled:
            one = float(values[0])
            return Estimate(one, one, one, "exact", 0.95, unit, how, "the training data")
        return intervals.mean_t(values, unit=unit, how=how, over=over)

    constant = "a kernel is zero or constant on the rows"
    aligned = "centered alignment of kernel and targets, classes in their shares"
    quantities = {
        "shape_drift": Quantity.from_estimate(
            estimate(0, "1 - CKA of the centered kernels before and after training")
        ),
        "trace_ratio": Quantity.from_estimate(
            estimate(1, "trace of the kernel after training over that before", "ratio")
        ),
        "alignment": Quantity.stacked([estimate(c, aligned) for c in (2, 3)], "weights"),
        "shuffled_alignment": Quantity.stacked(
            [estimate(c, f"{aligned}, targets shuffled", shuffled=True) for c in (4, 5)], "weights"
        ),
    }
    return {name: replace(value, missing=constant) for name, value in quantities.items()}


def _notes(state: State, fit: Linearized) -> tuple[str, ...]:
    kernel = "the kernel averaged over the outputs, which takes them for independent and alike"
    if fit.full:
        kernel = "the full kernel, which keeps the outputs apart"
    if fit.least.shape[1] == 1:
        kernel = "its kernel; the network has one output"
    notes = [
        f"The linearized network is fitted to {len(state.fitted):,} of {len(state.train.rows):,} "
        f"training rows with {kernel}.",
        f"Drift is measured on {min(DRAWN, len(state.train.rows))} training rows at a time, with "
        "the kernel averaged over the outputs.",
    ]
    if state.diverged:
        notes.append("Trained from another seed, the network ended in numbers that are not finite.")
    if len(state.fitted) < len(state.train.rows):
        notes.append(
            "The network saw all training rows and the linearized one fewer, so that a lead of the "
            "network may come from its rows."
        )
    return tuple(notes)
