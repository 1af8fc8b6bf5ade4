"""An invented report, rich in content, for the tests of pages and terminals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.question import (
    Assumption,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    SubjectFacts,
    Table,
)
from whynet.examination.report import Answer, Receipt, Report


def share(value: float, low: float, high: float, **words: Any) -> Estimate:
    kind = words.pop("kind", "interval")
    return Estimate(value, low, high, kind, unit="fraction", **{"over": "examples", **words})


def _reliability(figure: Any) -> None:
    axes = figure.subplots()
    x = np.linspace(0.3, 0.98, 8)
    axes.plot([0.25, 1], [0.25, 1], color="#6b7684", lw=1, ls="--")
    axes.errorbar(x, x - 0.16 * (1 - x), yerr=0.03, marker="o", lw=1.8)
    axes.plot(x, x + 0.01 * np.sin(9 * x), marker="s", ms=4)
    axes.text(0.55, 0.42, "as trained", color="#0b6e99")
    axes.text(0.42, 0.6, "temperature 2.3", color="#c4791a", ha="right")
    axes.set(xlabel="confidence", ylabel="share that is right", title="It promises too much")


def _bars(figure: Any) -> None:
    axes = figure.subplots()
    names = [f"class {i}" for i in range(10)]
    axes.barh(names, np.linspace(0.91, 0.999, 10))
    axes.set(xlim=(0.85, 1), xlabel="accuracy on unseen examples")
    axes.grid(axis="x")


def _curve(figure: Any) -> None:
    axes = figure.subplots()
    x = np.array([4, 8, 16, 32, 48, 64, 96, 128])
    y = np.array([0.62, 0.21, 0.095, 0.055, 0.038, 0.027, 0.009, 0.001])
    axes.fill_between(x, 0.8 * y**0.2, y**0.1, color="#c9ced6", alpha=0.6)
    axes.loglog(x, y, marker="o")
    axes.text(30, 0.03, "merged by function", color="#0b6e99", ha="right")
    axes.text(20, 0.62, "pruned to the same size", color="#44505e")
    axes.set(xlabel="hidden neurons kept", ylabel="error of the outputs")


def _cloud(figure: Any) -> None:
    left, right = figure.subplots(1, 2)
    draws = np.random.default_rng(0).normal(size=(2, 6000))
    left.scatter(*draws, s=3, alpha=0.3)
    left.set(title="before training", xlabel="angle", ylabel="norm")
    right.scatter(draws[0] ** 3, draws[1], s=3, alpha=0.3, color="#c4791a")
    right.set(title="after", xlabel="angle")


def _image(figure: Any) -> None:
    axes = figure.subplots()
    shown = axes.imshow(np.add.outer(np.arange(20), np.arange(60)) % 17, aspect="auto")
    figure.colorbar(shown, ax=axes, label="region")


FIGURES = (
    Figure(
        "calibration-curve",
        _reliability,
        (
            "Share that is right against confidence, eight bins of equal size; "
            "bars are 95 % intervals over **360 examples**."
        ),
        "A curve below the diagonal: the network is too sure of itself.",
        3.4,
    ),
    Figure(
        "accuracy-by-class",
        _bars,
        "Accuracy by class.",
        "Ten bars between 91 and 99.9 percent.",
        3.0,
    ),
    Figure(
        "size-error-curve",
        _curve,
        (
            "Relative error of the outputs against the number of neurons that "
            "are kept; grey: the range of magnitude and random pruning."
        ),
        "The error falls from 62 percent at 4 neurons to 0.1 percent at 128.",
        3.4,
    ),
    Figure(
        "neuron-cloud",
        _cloud,
        "Every neuron, by direction and norm.",
        "A round cloud before training, an elongated one after.",
        3.0,
    ),
    Figure(
        "region-map",
        _image,
        "Linear regions on a plane through three images.",
        "A map of stripes.",
        2.6,
    ),
    Figure("spectrum", _curve, "Spectrum of the loss Hessian.", "A falling curve.", 3.0),
    Figure("trace-by-layer", _bars, "Trace by layer.", "Ten bars.", 2.6),
    Figure(
        "attack-curve",
        _reliability,
        "Accuracy under attack against radius.",
        "A falling curve.",
        3.2,
    ),
    Figure("boundary-plane", _image, "Decision boundary.", "A map of stripes.", 2.6),
    Figure("kernel-drift", _curve, "Kernel drift.", "A rising curve.", 3.0),
)


def _finding(key: str, headline: str, numbers: str, advice: str, **rest: Any) -> Finding:
    return Finding(key=key, headline=headline, numbers=numbers, advice=advice, **rest)


FINDINGS = (
    _finding(
        "calibration",
        "It generalizes, and it is overconfident.",
        (
            "Accuracy on unseen digits is **97.8 %** [96.0, 98.9]. Log-loss "
            "falls from 0.31 to **0.09** when its outputs are divided by 2.3."
        ),
        (
            "Set the temperature before its probabilities are used. More "
            "training will not help: five other seeds end at 96.9 to 98.1 %."
        ),
        estimate=share(0.978, 0.960, 0.989, how="Clopper–Pearson"),
        label="this network",
        references=(
            Reference("nearest neighbor", 0.952, 0.983),
            Reference("linear model", 0.889, 0.936),
        ),
        importance=0.9,
        instrument="calibration",
        cites=("guo2017", "clopper1934"),
    ),
    _finding(
        "size",
        "It could be less than half its size.",
        (
            "**48 of 128** hidden neurons reproduce its outputs to 3.8 % on "
            "the data; accuracy 96.7 % against 97.8 % [paired: −2.2, +0.0]. "
            "Off the data the two differ by up to 47 %."
        ),
        ("`whynet condense digits-mlp --units 48` writes the small network with its certificate."),
        estimate=Estimate(48.0, 44.0, 53.0, "interval", unit="count", over="examples"),
        label="neurons needed",
        references=(Reference("at initialization", 118, 127), Reference("other seeds", 45, 55)),
        axis=(0.0, 128.0),
        importance=0.8,
        instrument="size-error-curve",
        cites=("luo2021", "zhou2022"),
    ),
    _finding(
        "rich",
        "It learned more than its initial kernel can.",
        (
            "Linearized at its start it would reach **93.1 %** [90.0, 95.4]; "
            "it agrees with that network on 94 % of the images, with another "
            "seed on 97 %."
        ),
        "Kernel methods will not replace it here.",
        estimate=share(0.942, 0.925, 0.957, over="draws of 256 images", kind="indicative"),
        label="agreement",
        references=(Reference("another seed", 0.965, 0.979),),
        importance=0.7,
        instrument="lazy-or-rich",
        cites=(),
    ),
    _finding(
        "curvature",
        "The step size has room.",
        ("Along training the sharpness stayed below **0.3** of its stability limit."),
        "Try four times the step size: the same loss in 0.4 of the steps.",
        estimate=Estimate(31.4, 31.4, 31.4, "exact", unit="", over=""),
        label="sharpness",
        references=(
            Reference("limit of stability", 200.0, 200.0),
            Reference("at initialization", 0.4, 2.0),
            Reference("other seeds", 26, 39),
        ),
        importance=0.6,
        instrument="hessian-top",
        cites=("ghorbani2019", "pearlmutter1994"),
    ),
    _finding(
        "memorized",
        "Twenty training images are memorized, not learned.",
        (
            "They carry **41 %** of all self-influence; removing them changes "
            "accuracy by **+0.2** points [−0.3, +0.7]."
        ),
        "Look at them first: eleven are hard to read by eye.",
        estimate=share(0.41, 0.36, 0.46),
        label="share of influence",
        references=(Reference("at random", 0.014, 0.014),),
        importance=0.5,
        instrument="self-influence",
        cites=("zhang2017",),
    ),
    _finding(
        "fragile",
        "It is fragile.",
        (
            "At radius 0.1 the best of 5 attacks leaves **54 %** [48.6, 59.1]; "
            "only 12 % is guaranteed."
        ),
        ("Train with adversarial examples, or keep the inputs inside the range of the data."),
        estimate=share(0.54, 0.12, 0.591, kind="certified"),
        label="accuracy under attack",
        references=(
            Reference("no attack", 0.96, 0.989),
            Reference("a linear model", 0.31, 0.42),
            Reference("nearest neighbor", 0.36, 0.47),
        ),
        axis=(0.0, 1.0),
        importance=0.4,
        instrument="attack",
        cites=("madry2018", "goodfellow2015"),
    ),
)

_TITLES = (
    ("generalization", "Does it generalize, and is it honest about it?", "Generalization"),
    ("size", "How small could it be?", "Size"),
    ("curvature", "How curved is the loss where it ended?", "Curvature"),
    ("robustness", "What does it take to fool it?", "Robustness"),
    ("kernel", "Did it do more than its kernel at the start?", "Kernel"),
)

RECEIPTS = (
    Receipt("calibration", "whynet measure calibration digits-mlp --rounds 1 --seed 0", 1, 0.4),
    Receipt(
        "size-error-curve",
        "whynet measure size-error-curve model.py:build --weights digits.safetensors "
        "--train train.npz --test test.npz --loss cross-entropy --rounds 3 --seed 0",
        3,
        2.1,
    ),
    Receipt(
        "hessian-top",
        "whynet measure hessian-top digits-mlp --rounds 2 --seed 0",
        2,
        21.7,
        "central difference agrees to 3e-7",
    ),
    Receipt("attack", "whynet measure attack digits-mlp --rounds 5 --seed 0", 5, 30.2),
    Receipt("lazy-or-rich", "whynet measure lazy-or-rich digits-mlp --rounds 5 --seed 0", 5, 8.8),
    Receipt(
        "self-influence", "whynet measure self-influence digits-mlp --rounds 1 --seed 0", 1, 4.0
    ),
)


def _panel(place: int) -> Panel:
    rows = (
        (
            "96",
            share(0.009, 0.008, 0.011),
            share(0.978, 0.960, 0.989),
            Estimate(0.021, 0.0, 0.021, "certified", unit="fraction"),
        ),
        (
            "48",
            share(0.038, 0.034, 0.042),
            share(0.967, 0.946, 0.981),
            Estimate(0.096, 0.0, 0.096, "certified", unit="fraction"),
        ),
        ("16", share(0.095, 0.085, 0.107), share(0.944, 0.921, 0.963), "loose"),
    )
    findings = {0: (0,), 1: (1,), 2: (3,), 3: (5,), 4: (2, 4)}[place]
    return Panel(
        lead=(
            "Neurons whose functions agree on the data are merged and the next "
            "layer is refitted; "
            "nothing is retrained. The reference is pruning to the same size, "
            "and it is **worse at every size** down to eight neurons."
        ),
        method=(
            "Least squares on the activations of all training examples, singular values "
            "below `1e-6` cut off."
        ),
        figures=FIGURES[2 * place : 2 * place + 2],
        tables=(
            Table(
                ("units", "output error", "accuracy", "certified on balls of radius 0.05"),
                rows,
                "What the smaller networks do.",
            ),
        ),
        assumptions=(
            Assumption("Homogeneous activation.", "met"),
            Assumption("Test examples are drawn like the training examples.", "cannot be checked"),
            Assumption("Weights are far from zero.", "not met"),
        ),
        findings=tuple(FINDINGS[i] for i in findings),
    )


def measurement() -> Measurement:
    return Measurement.of(
        {"accuracy": Quantity(0.9, 0.8, 0.95, kind="interval", unit="fraction")},
        cites=("kumar2019", "newcombe1998"),
        notes=("Temperature was fitted on half of the test data and judged on the other half.",),
    )


def _facts() -> SubjectFacts:
    return SubjectFacts(
        name="digits-mlp",
        architecture="64–128–10 ReLU network",
        parameters=9610,
        trainable=9610,
        task="classification",
        classes=10,
        train_examples=1437,
        test_examples=360,
        input_shape=(64,),
        loss="cross-entropy",
        notes=("Inputs were scaled from 0…16 to 0…1 by the loader.",),
    )


CHECK = "one random direction agrees with a central difference on a float64 copy to **3e-7**"


def _rows() -> dict[str, tuple[tuple[str, str], ...]]:
    return {
        "plan": (("way", "forward over reverse"), ("check", CHECK), ("refused", "nothing")),
        "provenance": (
            ("whynet", "0.1.0"),
            ("weights", "sha256 " + "3fa9c1d2" * 8),
            ("training data", "sha256 " + "b7705e11" * 8),
        ),
    }


def make_report(**changes: Any) -> Report:
    """Return the invented report, with fields replaced."""
    answers = [
        Answer(
            name,
            Question(title, short, (RECEIPTS[place].instrument,), order=place),
            "answered",
            panel=_panel(place),
            receipts=(RECEIPTS[place], RECEIPTS[5]) if place == 4 else (RECEIPTS[place],),
        )
        for place, (name, title, short) in enumerate(_TITLES)
    ]
    answers.append(
        Answer(
            "scattering",
            Question("Is it a scattering network in disguise?", "Scattering", ("scattering",)),
            "not applicable",
            ("The inputs are vectors of length 64, and a scattering transform needs images."),
        )
    )
    answers.append(
        Answer(
            "regions",
            Question("How many linear pieces does it use?", "Regions", ("regions",)),
            "failed",
            "RuntimeError: element 0 of tensors does not require grad",
        )
    )
    report = Report(
        facts=_facts(),
        answers=tuple(answers),
        outcomes={
            "calibration": measurement(),
            "hessian-top": measurement(),
            "scattering": NotApplicable("The inputs are no images."),
            "polygons": Failed("MemoryError: 3.1 GB wanted, 1.0 GB left in the budget"),
        },
        **_rows(),
        seconds=58.2,
    )
    return replace(report, **changes)
