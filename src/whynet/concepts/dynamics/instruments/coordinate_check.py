"""Short training at several widths: how far activations move, and which step size is best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from whynet.concepts.dynamics.widths import RATE_WIDTHS, RATES, WIDTHS, Run, short_run
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.data.examples import Examples
from whynet.models.features import bounded
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.step_sizes import best_on_grid, slope

INSTRUMENT = Instrument(
    title="how far activations move in short training runs of several widths, and which step "
    "size is best at each",
    unit="",
    needs=("retrainable",),
    cost="57 training runs of a twentieth of the steps, three seeds at widths of 1/2 to 4 times; "
    "12 runs where the step size cannot be scaled, whole ones where the steps cannot",
    cites=("yang2021", "yang2022"),
    closed_form="one-step-widths",
    rounds=10,
    draws=True,
)

SEEDS = 3
"""Seeds of a round."""

SHARE = 0.05
"""Of the steps, where the training function lets them be scaled."""

MOST_ROWS, MOST_JUDGED = 256, 2_000
"""Training rows that activations are watched on, and that the loss is measured on."""

Key = tuple[float, float]


@dataclass(frozen=True)
class State:
    """The subject, what can be scaled, and the runs of each seed by width and step size."""

    subject: Subject
    seed: int
    trainer: Trainer
    watched: Examples
    judged: Examples
    seeds: tuple[Mapping[Key, Run], ...] = ()

    @property
    def steps(self) -> float:
        """The share of training that is run."""
        return SHARE if "steps" in self.trainer.varies else 1.0

    @property
    def grid(self) -> bool:
        """Whether step sizes are tried: it takes short runs, being many."""
        return {"steps", "learning_rate"} <= self.trainer.varies


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Check that the width can be scaled, and that scaling it adds parameters."""
    known = subject.trainer
    assert known is not None
    if "width" not in known.varies:
        return NotApplicable(
            "This does not apply: the function that builds the network takes no argument "
            "'width_factor', so that no other widths can be trained."
        )
    sizes = [
        sum(p.numel() for p in known.fresh(Variation(seed=1, width=width)).parameters())
        for width in WIDTHS
    ]
    if (np.diff(sizes) <= 0).any():
        return NotApplicable(
            "This does not apply: a larger 'width_factor' does not give a network with more "
            "parameters."
        )
    train = subject.examples("train")
    # A trainer of its own, so that many short runs do not drive long ones out of its memory.
    return State(
        subject,
        seed,
        Trainer(known.build, known.train, label=known.label),
        bounded(train, MOST_ROWS, "watched", seed),
        bounded(train, MOST_JUDGED, "judged", seed),
    )


def advance(state: State) -> State:
    """Train networks of every width and step size from three seeds."""
    first = 1 + len(state.seeds) + 1000 * state.seed
    return replace(state, seeds=(*state.seeds, *(_runs(state, first + k) for k in range(SEEDS))))


def _runs(state: State, seed: int) -> dict[Key, Run]:
    wanted = [(width, 1.0) for width in WIDTHS]
    if state.grid:
        wanted += [(width, rate) for width in RATE_WIDTHS for rate in RATES if rate != 1]
    return {
        (width, rate): short_run(
            state.subject,
            state.trainer,
            Variation(seed=seed, width=width, learning_rate=rate, steps=state.steps),
            state.watched if rate == 1 else None,
            state.judged,
        )
        for width, rate in wanted
    }


def read(state: State) -> Measurement:
    """Return changes of activations and their slopes, losses, and the best step sizes."""
    layers = list(state.seeds[0][(1.0, 1.0)].changes)
    quantities = _changes(state, layers)
    coords: dict[str, object] = {"layer": layers, "width": list(WIDTHS)}
    if state.grid:
        losses = np.array(
            [[[runs[(w, r)].loss for r in RATES] for w in RATE_WIDTHS] for runs in state.seeds]
        )
        quantities |= _rates(losses)
        coords |= {"tried_width": list(RATE_WIDTHS), "rate": list(RATES)}
    return Measurement.of(
        quantities, coords=coords, cites=INSTRUMENT.cites, notes=_notes(state, layers)
    )


def _changes(state: State, layers: list[str]) -> dict[str, Quantity]:
    runs = [[each[(width, 1.0)] for width in WIDTHS] for each in state.seeds]
    every = np.array(
        [[[run.changes.get(name, np.nan) for run in row] for name in layers] for row in runs]
    )
    with np.errstate(divide="ignore"):
        logs = np.log2(every)
    logs = np.where(np.isfinite(logs), logs, np.nan)
    change = "root mean square change of a layer's outputs by training, geometric mean over seeds"
    law = "slope of its logarithm in that of the width, mean over seeds with t interval"
    places = [(i, j) for i in range(len(layers)) for j in range(len(WIDTHS))]
    flat = [_geometric(logs[:, i, j], change) for i, j in places]
    missing = "a layer did not move, or training diverged"
    slopes = [_over_seeds(slope(WIDTHS, logs[:, i]), law, True) for i in range(len(layers))]
    diverged = [sum(not row[j].finite for row in runs) for j in range(len(WIDTHS))]
    return {
        "change": _shaped(flat, (len(layers), len(WIDTHS)), ("layer", "width"), missing),
        "slope": replace(Quantity.stacked(slopes, "layer"), missing=missing),
        "parameters": Quantity(
            [float(run.parameters) for run in runs[0]], dims=("width",), unit="count",
            how="parameters of the network",
        ),
        "diverged": Quantity(
            [float(count) for count in diverged], dims=("width",), unit="count",
            how=f"of {len(runs)} runs at this width, those whose weights did not stay finite",
        ),
        "steps": Quantity(state.steps, unit="fraction", how="share of the training that was run"),
    }  # fmt: skip


def _rates(losses: np.ndarray) -> dict[str, Quantity]:
    """Return mean losses, best step sizes and their slope from `[seeds, widths, rates]`."""
    with np.errstate(divide="ignore"):
        logs = np.log2(losses)
    best = np.array([[best_on_grid(RATES, row) for row in each] for each in logs])
    shape = (len(RATE_WIDTHS), len(RATES))
    how = "training loss after the run, geometric mean over seeds"
    places = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
    flat = [_geometric(np.where(np.isfinite(logs), logs, np.nan)[:, i, j], how) for i, j in places]
    law = "slope of the logarithm of the best step size in that of the width, t over seeds"
    edge = "the loss is lowest at an end of the step sizes tried"
    at = "factor on the step size with the lowest training loss, parabola through three of the grid"
    means = [_geometric(best[:, i], at) for i in range(len(RATE_WIDTHS))]
    carried = _over_seeds(_cost(logs), "logarithm of the ratio of losses, t over seeds")
    cost = (
        "training loss at the widest with the step size best at the narrowest, over that with its "
        "own; each seed with the step sizes that the others chose"
    )
    lost = "a run diverged"
    return {
        "loss": _shaped(flat, shape, ("tried_width", "rate"), lost),
        "best_rate": replace(Quantity.stacked(means, "tried_width"), missing=edge),
        "rate_slope": replace(
            Quantity.from_estimate(_over_seeds(slope(RATE_WIDTHS, best), law, True)), missing=edge
        ),
        "carry_cost": replace(
            Quantity.from_estimate(replace(_powered(carried), unit="ratio", how=cost)), missing=lost
        ),
    }


def _cost(logs: np.ndarray) -> np.ndarray:
    """Log2 of how much higher the loss of each seed is with the step size carried over."""
    found = []
    for held in range(len(logs)):
        others = np.delete(logs, held, axis=0).mean(0)
        carried, own = (logs[held, -1, int(np.argmin(others[width]))] for width in (0, -1))
        found.append(carried - own if np.isfinite([carried, own]).all() else np.nan)
    return np.array(found)


def _over_seeds(values: np.ndarray, how: str, tested: bool = False) -> Estimate:
    """Student's t over seeds; of slopes its coverage over three of them is tested."""
    if not np.isfinite(values).all():
        return Estimate(np.nan, np.nan, np.nan, "indicative", how=how, over="training seeds")
    found = intervals.mean_t(values, how=how, over="training seeds")
    return replace(found, kind="interval") if tested and np.ptp(values) > 0 else found


def _powered(log: Estimate) -> Estimate:
    value, low, high = (float(np.exp2(min(x, 1000.0))) for x in (log.value, log.low, log.high))
    return replace(log, value=value, low=low, high=high)


def _geometric(logs: np.ndarray, how: str) -> Estimate:
    return _powered(_over_seeds(logs, f"{how}, t interval on the logarithm"))


def _shaped(
    flat: list[Estimate], shape: tuple[int, ...], dims: tuple[str, ...], missing: str
) -> Quantity:
    made = Quantity.stacked(flat, "place")
    value, low, high = (np.reshape(np.asarray(p), shape) for p in (made.value, made.low, made.high))
    return replace(made, value=value, low=low, high=high, dims=dims, missing=missing)


def _notes(state: State, layers: list[str]) -> tuple[str, ...]:
    notes = [
        f"Networks were trained for {100 * state.steps:.0f} % of the steps from {len(state.seeds)} "
        f"seeds; activations were watched on {state.watched.count} training examples."
    ]
    if not state.grid:
        notes.append(
            "Step sizes were not tried: the training function must take both "
            "'learning_rate_factor' and 'steps_factor' for that."
        )
    found = {name for runs in state.seeds for run in runs.values() for name in run.changes}
    if found - set(layers):
        notes.append("Some layers are not there at every width.")
    return tuple(notes)
