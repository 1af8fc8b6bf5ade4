from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.dynamics.instruments import coordinate_check
from whynet.concepts.dynamics.questions import width_transfer
from whynet.concepts.dynamics.widths import RATE_WIDTHS, RATES, WIDTHS
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.families import mlp
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject
from whynet.testing.closed_forms import closed_forms
from whynet.testing.conformance import (
    check_batch_split,
    check_old_state,
    check_precisions,
    check_same_seed,
    check_untouched,
)

FEATURES, STEP = 3, 0.01


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y = drawn(20, FEATURES, seed=0), 6 + drawn(20, 1, seed=1)


def one_step(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    functional.mse_loss(model(inputs), targets).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= STEP * parameter.grad


def family(parametrization: str, units: int) -> Callable[..., nn.Module]:
    def build(width_factor: float = 1.0) -> nn.Module:
        module: nn.Module = mlp.build(
            FEATURES, (round(units * width_factor),), 1, "linear",
            bias=False, parametrization=parametrization,
        ).double()  # fmt: skip
        return module

    return build


def held(
    build: Callable[..., nn.Module],
    train: Callable[..., None] = one_step,
    dtype: torch.dtype = torch.float64,
) -> Subject:
    with torch.random.fork_rng(devices=[]):
        module = build()
    trainer = Trainer(build, train)
    return Subject(module, train=(X, Y), loss="mse", dtype=dtype, trainer=trainer)


def measured(subject: Subject, rounds: int = 1) -> Measurement:
    found = measure("coordinate-check", subject, rounds=rounds)
    assert isinstance(found, Measurement)
    return found


def asked(subject: Subject, found: Measurement) -> Panel:
    panel = width_transfer.ask(Results(subject.facts, {"coordinate-check": found}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


def by_hand(module: nn.Module, ntk: bool) -> tuple[float, float]:
    """One step of gradient descent on (s₂ v)·(s₁ W x), with its gradients written out."""
    first, last = (p.detach().numpy() for p in module.parameters())
    x, y = X.double().numpy(), Y.double().numpy()
    units = len(first)
    inner, outer = (FEATURES**-0.5, units**-0.5) if ntk else (1.0, 1.0)
    hidden = inner * x @ first.T
    gap = outer * hidden @ last.T - y
    scale = 2 / len(x)
    by_last = scale * outer * gap.T @ hidden
    by_first = scale * outer * inner * (gap @ last).T @ x
    moved = inner * x @ (first - STEP * by_first).T
    outputs = outer * moved @ (last - STEP * by_last).T
    changes = moved - hidden, outputs - gap - y
    return tuple(float(np.sqrt((change**2).mean())) for change in changes)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_changes_are_those_of_one_step_written_out(
    parametrization: str, dtype: torch.dtype
) -> None:
    subject = held(family(parametrization, 16), dtype=dtype)
    assert subject.trainer is not None
    found = measured(subject)
    for width in WIDTHS:
        made = [subject.trainer.fresh(Variation(seed=s, width=width)) for s in (1, 2, 3)]
        logs = np.log([by_hand(module, parametrization == "ntk") for module in made]).mean(0)
        got = [found.estimate("change", layer=name, width=width).value for name in ("0", "2")]
        assert got == pytest.approx(np.exp(logs), rel=1e-9 if dtype == torch.float64 else 1e-3)


@pytest.mark.parametrize(
    ("parametrization", "hidden", "output"), [("standard", -0.5, 1.0), ("ntk", -0.5, 0.0)]
)
def test_slopes_of_the_two_parametrizations(
    parametrization: str, hidden: float, output: float
) -> None:
    """In the standard one outputs move as width; in the tangent kernel's as width to the 0."""
    subject = held(family(parametrization, 256))
    found = measured(subject, rounds=2)
    assert found.estimate("slope", layer="0").value == pytest.approx(hidden, abs=0.1)
    assert found.estimate("slope", layer="2").value == pytest.approx(output, abs=0.1)
    findings = asked(subject, found).findings
    keys = [finding.key for finding in findings]
    assert keys == (["activations_grow_with_width"] if parametrization == "standard" else [])
    assert "rate_slope" not in found.names
    assert any("Step sizes were not tried" in note for note in found.notes)
    assert found.values("steps") == 1


def test_the_best_step_size_of_the_closed_form_depends_on_the_width() -> None:
    subject = closed_forms()["one-step-widths"].subject(torch.float64, 0)
    found = measured(subject, rounds=3)
    (finding,) = asked(subject, found).findings
    assert finding.key == "step_size_depends_on_width"
    assert finding.regardless
    law = found.estimate("rate_slope")
    assert law.kind == "interval"
    assert law.low < -1 < law.high
    assert found.values("steps") == 0.05
    best = found.values("best_rate")
    assert best == pytest.approx(best[1] * np.array([2, 1, 0.5]), rel=0.2)
    assert subject.trainer is not None
    assert not subject.trainer._kept, "short runs drove long ones out of memory"


def altered(found: Measurement, **numbers: tuple[float, float, float]) -> Measurement:
    dataset = found.dataset.copy(deep=True)
    for name, three in numbers.items():
        for suffix, value in zip(("", "_low", "_high"), three, strict=True):
            dataset[name + suffix][...] = value
    return Measurement(dataset)


@pytest.mark.parametrize(
    ("law", "cost", "key"),
    [
        ((-1, -1.1, -0.9), (2, 1.5, 3), "step_size_depends_on_width"),
        ((0.6, 0.3, 0.9), (1.1, 0.9, 1.3), "step_size_depends_on_width"),
        ((0.6, 0.3, 0.9), (math.nan, math.nan, math.nan), "step_size_depends_on_width"),
        ((0.4, 0.1, 0.7), (2, 1.5, 3), None),
        ((0.05, -0.1, 0.2), (1, 0.9, 1.1), "step_size_carries_over"),
        ((0.05, -1, 1.1), (1, 0.9, 1.1), None),
        ((math.nan, math.nan, math.nan), (2, 1.5, 3), None),
    ],
)
def test_what_is_said_follows_the_measurement(
    law: tuple[float, float, float], cost: tuple[float, float, float], key: str | None
) -> None:
    subject = closed_forms()["one-step-widths"].subject(torch.float64, 0)
    found = altered(measured(subject), rate_slope=law, carry_cost=cost)
    panel = asked(subject, found)
    assert [finding.key for finding in panel.findings] == ([key] if key else [])
    for finding in panel.findings:
        assert finding.estimate.excludes(-0.25, 0.25) == (key == "step_size_depends_on_width")
        assert "nan" not in finding.numbers + finding.advice
    if math.isnan(law[0]):
        assert "lies at an end of those tried" in panel.lead


def test_divergence_of_wider_networks() -> None:
    def explodes(
        model: nn.Module, inputs: Tensor, targets: Tensor,
        learning_rate_factor: float = 1.0, steps_factor: float = 1.0,
    ) -> None:  # fmt: skip
        one_step(model, inputs, targets)
        if model[0].out_features > 16 or learning_rate_factor > 4:  # type: ignore[index]
            with torch.no_grad():
                next(model.parameters()).fill_(math.inf)

    subject = held(family("standard", 16), explodes)
    found = measured(subject)
    assert found.values("diverged").tolist() == [0, 0, 3, 3]
    assert np.isnan(found.values("slope")).all()
    assert np.isnan(found.values("loss", rate=8.0)).all()
    assert np.isfinite(found.values("loss", rate=1.0)[:2]).all()
    (finding,) = asked(subject, found).findings
    assert finding.key == "wider_diverges"
    assert "**2 times the width**, 3 runs" in finding.numbers


def test_best_step_sizes_at_the_end_of_the_grid_say_nothing() -> None:
    def tiny(
        model: nn.Module, inputs: Tensor, targets: Tensor,
        learning_rate_factor: float = 1.0, steps_factor: float = 1.0,
    ) -> None:  # fmt: skip
        functional.mse_loss(model(inputs), targets).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= 1e-4 * learning_rate_factor * parameter.grad

    subject = held(family("ntk", 16), tiny)
    found = measured(subject)
    assert np.isnan(found.values("best_rate")).all()
    assert np.isnan(found.values("rate_slope"))
    losses = found.values("loss")
    assert losses.shape == (len(RATE_WIDTHS), len(RATES))
    assert (np.diff(losses, axis=1) < 0).all()
    panel = asked(subject, found)
    assert panel.findings == ()
    assert "lies at an end of those tried" in panel.lead


def test_what_cannot_be_widened_is_refused() -> None:
    narrow = measure("coordinate-check", held(lambda: nn.Linear(FEATURES, 1)))
    assert isinstance(narrow, NotApplicable)
    assert "no argument 'width_factor'" in narrow.reason
    still = measure("coordinate-check", held(lambda width_factor=1.0: nn.Linear(FEATURES, 1)))
    assert isinstance(still, NotApplicable)
    assert "more parameters" in still.reason
    none = measure("coordinate-check", Subject(nn.Linear(FEATURES, 1), train=(X, Y), loss="mse"))
    assert isinstance(none, NotApplicable)
    assert "no training function" in none.reason


def test_names_cannot_mark_up() -> None:
    subject = closed_forms()["one-step-widths"].subject(torch.float64, 0)
    found = measured(subject)
    asked(subject, Measurement(found.dataset.assign_coords(layer=["_$x^{$", "<b>$"])))


def test_networks_with_batch_normalization_and_classes() -> None:
    def build(width_factor: float = 1.0) -> nn.Module:
        units = round(8 * width_factor)
        return nn.Sequential(
            nn.Linear(FEATURES, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Linear(units, 2)
        )

    def train(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        functional.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad

    labels = (Y[:, 0] > 6).long()
    subject = Subject(build(), train=(X, labels), trainer=Trainer(build, train))
    found = measured(subject)
    assert found.dataset["layer"].values.tolist() == ["0", "1", "3"]
    assert (found.values("change") > 0).all()
    asked(subject, found)


@pytest.mark.parametrize(
    "check",
    [check_batch_split, check_old_state, check_precisions, check_same_seed, check_untouched],
)
def test_conformance_on_networks_that_can_be_widened(check: Callable[..., None]) -> None:
    def make(dtype: torch.dtype, batch_size: int = 512) -> Subject:
        form = closed_forms()["one-step-widths"].subject(dtype, 0)
        return form.replaced(form.module, batch_size=2 if batch_size == 7 else batch_size)

    check(coordinate_check, make, torch.float32)
