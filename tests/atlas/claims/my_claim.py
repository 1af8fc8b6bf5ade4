"""A claim of NumPy alone, whose cells can be told to misbehave; as a user would write it."""

import os
import signal
import sys
import time

import numpy as np

from whynet.core.claim import Claim, Control, Judgement, Parameter

CLAIM = Claim(
    title="The mean of a product is the product of the means",
    statement="For independent x and y, E[xy] = E[x] E[y].",
    kind="theorem",
    cites=(),
    answers=("generalization",),
    assumptions={"independent": "x and y are independent"},
    parameters=(
        Parameter("size", "int", "rows of the sample", 1, 100000),
        Parameter("shift", "float", "mean of both", -10.0, 10.0),
        Parameter("pause", "float", "seconds that a cell takes", 0.0, 1000.0),
        Parameter("copies", "choice", "whether y is x", choices=("no", "yes")),
        Parameter(
            "fault",
            "choice",
            "what the cell of seed 1 does",
            choices=(
                "none", "raise", "nan", "infinite", "hang", "memory", "die", "exit", "leave",
                "kill-parent", "shape", "count", "text", "predict-raise", "predict-nan", "print",
                "global", "spawn",
            ),
        ),
    ),
    presets={
        "smoke": {"size": (50,), "shift": (1.0,), "pause": (0.0,), "seeds": (3,)},
        "small": {"size": (50, 80), "shift": (0.0, 1.0), "pause": (0.0,), "seeds": (6,)},
    },
    controls=(Control("copied", "independent", "copies", "yes", "y is x, so E[xy] = E[x^2]."),),
    shape=("size",),
    group=4,
)  # fmt: skip


def predict(cells):
    for cell in cells:
        if cell.parameters["fault"] == "predict-raise" and cell.seed == 1:
            raise ValueError("no theory")
    wrong = [c.parameters["fault"] == "predict-nan" and c.seed == 1 for c in cells]
    return [
        {"mean": np.float64(np.nan if bad else c.number("shift") ** 2)}
        for c, bad in zip(cells, wrong, strict=True)
    ]


def experiment(cells):
    found = [measured(cell) for cell in cells]
    return found[:-1] if any(c.parameters["fault"] == "count" for c in cells) else found


def measured(cell):
    time.sleep(cell.number("pause"))
    random = np.random.default_rng(cell.seed_for("sample", shared=("copies", "pause", "fault")))
    size, shift = int(cell.number("size")), cell.number("shift")
    x = random.normal(size=(size, 200)) + shift
    y = x if cell.parameters["copies"] == "yes" else random.normal(size=(size, 200)) + shift
    values = {
        "mean": np.float64((x * y).mean()),
        # Sums of many terms, whose last bits depend on the number of threads.
        "spectrum": np.linalg.svd(x @ y.T, compute_uv=False)[:3],
        "rows": np.int64(size),
    }
    fault = cell.parameters["fault"]
    return misbehaved(fault, values) if cell.seed == 1 else values


def misbehaved(fault, values):
    if fault == "raise":
        raise RuntimeError("told to \x1b[31mraise")
    if fault in ("nan", "infinite"):
        return {**values, "mean": np.float64(np.nan if fault == "nan" else np.inf)}
    if fault == "hang":
        time.sleep(10_000)
    if fault == "memory":
        np.ones(2**50)
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        os._exit(7)
    if fault == "leave":
        sys.exit("told to leave")
    if fault == "kill-parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10_000)
    if fault == "shape":
        return {**values, "spectrum": np.ones(5)}
    if fault == "text":
        return {**values, "mean": "one"}
    if fault == "print":
        print("printed by the claim")
        np.seterr(all="ignore")
    if fault == "global":
        return {**values, "mean": np.float64(np.random.rand())}  # noqa: NPY002
    if fault == "spawn":
        import subprocess

        subprocess.run(["sleep", "9876"], check=True)
    return values


def judge(measured, predicted):
    gap = float(abs((measured["mean"] - predicted["mean"]).mean()))
    state = "supported" if gap < 0.1 else "refuted"
    return Judgement(state, f"The mean is off by {gap:.3f}.")


def draw(figure, measured, predicted):
    axes = figure.subplots()
    axes.plot(measured["mean"].values.ravel(), "o")
    axes.plot(predicted["mean"].values.ravel())
