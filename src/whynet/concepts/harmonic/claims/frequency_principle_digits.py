"""On handwritten digits, what is smooth over the inputs is learned before what is rough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.harmonic import figures
from whynet.concepts.harmonic.digit_networks import QUANTILES, part_errors, settling_times
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="On handwritten digits, the smooth part of the target is learned before the rough part",
    statement="""
Targets and outputs on the training rows are split into a smooth part, their average over
neighbors weighted by exp(−‖x − x'‖²/2δ²), and the rest, which is rough. Of a network with one
hidden layer trained on the mean square error, the error of the smooth part,
‖y_smooth − f_smooth‖/‖y_smooth‖, settles below one half well before that of the rough part, for
all widths δ of the filter between the 1 % and the 20 % quantile of the distances between rows.
""",
    kind="phenomenon",
    cites=("xu2020", "rahaman2019"),
    answers=("breiman-stop", "generalization", "optimization", "seven-features"),
    assumptions={
        "plain-loss": "the loss weighs the smooth and the rough part of the residual alike",
        "start": "the network computes 0 before training",
        "stable-step": "steps are small enough not to overshoot along the smoothest directions",
    },
    parameters=(
        Parameter("rows", "int", "training digits", 20, 1437),
        Parameter("width", "int", "hidden units", 1, 100_000),
        Parameter("optimizer", "choice", "how it is trained",
                  choices=("adam", "gradient-descent")),
        Parameter("steps", "int", "training steps", 2, 1_000_000),
        Parameter("loss", "choice", "how the loss weighs both parts", choices=("plain", "rough")),
    ),
    presets={
        "smoke": {"rows": (100,), "width": (64,), "optimizer": ("adam",), "steps": (200,),
                  "seeds": (10,)},
        "small": {"rows": (200,), "width": (64,), "optimizer": ("adam", "gradient-descent"),
                  "steps": (2000,), "seeds": (10,)},
        "full": {"rows": (1437,), "width": (64, 512), "optimizer": ("adam", "gradient-descent"),
                 "steps": (5000,), "seeds": (30,)},
    },
    controls=(
        Control("rough-loss", "plain-loss", "loss", "rough",
                "A loss that weighs the rough part 400 times as much as the smooth one reverses "
                "the order."),
    ),
    shape=("rows", "width", "optimizer", "steps", "loss"),
    group=16,
    cost="about 20 s",
    tolerance="For each optimizer and filter, the base-2 logarithm of the time of the rough part "
    "over that of the smooth part is at least 0.5 in the mean over seeds; a part that does not "
    "settle counts as settling at the last step, and where neither does nothing is decided. Seeds "
    "draw the start; the digits are the same in all.",
)  # fmt: skip

LEAST = 0.5


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the order: the logarithm of the ratio of times is above 0 for each filter."""
    return [{"least_log_ratio": np.zeros(len(QUANTILES))} for _ in cells]


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return when the error of each part settles below one half, for each filter."""
    steps, errors = part_errors(cells)
    return [{"smooth": times[0], "rough": times[1]} for times in settling_times(steps, errors)]


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the logarithm of the rough part's time over the smooth part's."""
    steps = measured["steps"]
    smooth, rough = (measured[name].rename({f"{name}_0": "filter"})
                     for name in ("smooth", "rough"))  # fmt: skip
    if bool(((smooth >= steps) & (rough >= steps)).any()):
        sentence = "In some runs neither part settled; more steps would tell."
        return Judgement("inconclusive", sentence)
    order = predicted["least_log_ratio"].rename({"least_log_ratio_0": "filter"})
    quotient = rough.clip(min=0.1) / smooth.clip(min=0.1)
    ratio = quotient.copy(data=np.log2(quotient.values)) - order
    axes = [str(n) for n in ratio.dims if n not in ("seed", "filter")]
    varying = [n for n in axes if ratio.sizes[n] > 1 or n == "optimizer"]
    bands = []
    for values in product(*(ratio[name].values.tolist() for name in varying)):
        part = ratio.sel(dict(zip(varying, values, strict=True)))
        table = part.transpose(..., "seed", "filter").values.reshape(-1, len(QUANTILES))
        name = ", ".join(map(str, values))
        bands += [
            Band(f"log₂ of rough over smooth time (filter at the {quantile:.0%} quantile, {name})",
                 table[:, place], low=LEAST)
            for place, quantile in enumerate(QUANTILES)
        ]  # fmt: skip
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw the times of both parts, one point a run and filter, and the line of equal times."""
    figures.paired_times(
        figure,
        measured["smooth"].values.reshape(-1, len(QUANTILES)),
        measured["rough"].values.reshape(-1, len(QUANTILES)),
        [f"{quantile:.0%} quantile" for quantile in QUANTILES],
    )
