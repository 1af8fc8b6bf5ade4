"""Movement of weights over a width ladder: known exponents, traps, and what is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.condensation.questions import starting_scale
from whynet.concepts.condensation.theory.phase_boundary import scales
from whynet.concepts.condensation.width_ladder import layers_of, moved
from whynet.concepts.measuring import measure
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.batch_norm import batch_normalized
from whynet.models.families import mlp
from whynet.models.retraining import Retrained, Trainer, Variation
from whynet.models.starting_weights import drawn_parameters
from whynet.models.subject import Subject

X = torch.tensor([[-1.0, 1.0], [-0.4, 1.0], [0.3, 1.0], [1.0, 1.0]])
Y = torch.tensor([[0.6], [-0.4], [0.5], [-0.3]])
UNITS, FITTED, MOST_STEPS = 200, 1e-4, 5000


def family(gamma: float, gamma_prime: float, dtype: torch.dtype) -> Callable[..., nn.Module]:
    """Two layers of rectified units whose starting deviations are powers of the width."""

    def build(width_factor: float = 1.0) -> nn.Module:
        units = round(UNITS * width_factor)
        outer, inner = scales(gamma, gamma_prime, units)
        module = nn.Sequential(nn.Linear(2, units, False), nn.ReLU(), nn.Linear(units, 1, False))
        first, last = module.parameters()
        nn.init.normal_(first, std=inner)
        nn.init.normal_(last, std=outer)
        return module.to(dtype)

    return build


def flow(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Descend until the data are fitted, gradients written out, in steps that never overshoot."""
    w, a = (p.detach().double().numpy() for p in model.parameters())
    x, y = inputs.double().numpy(), targets.double().numpy()[:, 0]
    squares = (x**2).sum(1)
    for _ in range(MOST_STEPS):
        active = x @ w.T > 0
        hidden = (x @ w.T) * active
        gap = hidden @ a[0] - y
        if (gap**2).mean() < FITTED:
            break
        trace = (hidden**2).sum() + ((active * a**2).sum(1) * squares).sum()
        step = 0.9 / trace
        a, w = a - step * gap @ hidden, w - step * (gap[:, None] * active * a).T @ x
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (w, a), strict=True):
            parameter.copy_(torch.as_tensor(value))


def subject_of(
    build: Callable[..., nn.Module],
    train: Callable[..., None],
    dtype: torch.dtype = torch.float64,
    data: tuple[Tensor, Tensor] = (X, Y),
    **changes: object,
) -> Subject:
    with torch.random.fork_rng(devices=[]):
        module = build()
    options = {"loss": "mse", "trainer": Trainer(build, train), **changes}
    rows = data[0].to(dtype), data[1].to(dtype) if data[1].is_floating_point() else data[1]
    return Subject(module, train=rows, dtype=dtype, **options)  # type: ignore[arg-type]


def measured(subject: Subject, rounds: int = 1, **options: object) -> Measurement:
    found = measure("weight-change", subject, rounds=rounds, options=options)
    assert isinstance(found, Measurement)
    return found


def asked(subject: Subject, found: Measurement) -> Panel:
    panel = starting_scale.ask(Results(subject.facts, {"weight-change": found}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


@cache
def phase(gamma: float, dtype: torch.dtype) -> tuple[Subject, Measurement]:
    subject = subject_of(family(gamma, 0.0, dtype), flow, dtype)
    return subject, measured(subject, 2, widths=(0.25, 1, 4), scales=(1,))


@pytest.mark.parametrize(
    ("gamma", "power", "dtype"),
    [
        (0.5, -0.5, torch.float64), (1.0, 0.0, torch.float64), (1.75, 0.375, torch.float64),
        (1.75, 0.375, torch.float32),
    ],
)  # fmt: skip
def test_the_exponents_of_the_phase_diagram(gamma: float, power: float, dtype: torch.dtype) -> None:
    """Tangent kernel, mean field and condensed, whose powers a scaling argument gives."""
    _, found = phase(gamma, dtype)
    law = found.estimate("furthest_slope", scale=1.0)
    assert law.kind == "interval"
    assert law.value == pytest.approx(power, abs=0.08)
    assert law.low < power + 0.05 and law.high > power - 0.05
    same = found.estimate("slope", layer="0", scale=1.0)  # the one layer before the last
    assert (same.value, same.low, same.high) == (law.value, law.low, law.high)
    assert (found.values("train_loss") <= 1.001 * FITTED).all()


def test_lazy_and_rich_families_are_told_apart() -> None:
    said = {}
    for gamma in (0.5, 1.75):
        subject, found = phase(gamma, torch.float64)
        panel = asked(subject, found)
        said[gamma] = (panel.lead, [finding.key for finding in panel.findings])
        assert panel.assumptions[1].status == "met"
    assert "as in the linear regime" in said[0.5][0]
    assert "as in the condensed regime" in said[1.75][0]
    assert [keys for _, keys in said.values()] == [["features_move_less"], ["features_move_more"]]


def test_rich_starts_leave_few_directions_where_lazy_ones_keep_theirs() -> None:
    """With two inputs random directions coincide too: they stand beside those before training."""
    lazy, rich = (phase(gamma, torch.float64)[1] for gamma in (0.5, 1.75))
    before, after = (
        [m.values(name, neurons="0", scale=1.0, width=1.0) for m in (lazy, rich)]
        for name in ("directions_before", "directions")
    )
    assert after[0] > 0.8 * before[0]
    assert after[1] <= 8 < 0.5 * before[1]


def decayed(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Shrink every weight to three tenths, and add what one step on the data moves."""
    with torch.no_grad():
        first, last = model.parameters()
        step = 0.01 * last.T * inputs.mean(0) / len(first) ** 0.5
        first.mul_(0.3).add_(step / step.norm())
        last.mul_(0.3)


def test_weight_decay_is_no_movement_that_no_width_changes() -> None:
    """The start shrinks alike at every width; what is not along it falls as the root of the width.

    By the whole change this network would look like mean field.
    """
    subject = subject_of(family(0.0, 0.0, torch.float64), decayed)
    found = measured(subject, widths=(0.5, 1, 2), scales=(1,))
    whole = np.log2(found.values("whole_change", layer="0", scale=1.0))
    assert abs(whole[-1] - whole[0]) / 2 < 0.01
    assert found.estimate("furthest_slope", scale=1.0).value == pytest.approx(-0.5, abs=0.05)


def test_changes_are_those_written_out() -> None:
    build = family(0.5, 0.0, torch.float64)
    subject = subject_of(build, flow)
    found = measured(subject, widths=(1,), scales=(0.5,))
    assert subject.trainer is not None
    for scale in (0.5, 1.0):
        logs = []
        for seed in (1, 2, 3):
            module = subject.trainer.fresh(Variation(seed=seed, start=scale))
            plain = subject.trainer.fresh(Variation(seed=seed))
            for one, two in zip(module.parameters(), plain.parameters(), strict=True):
                assert torch.equal(one, scale * two)
            start = next(module.parameters()).detach().numpy().copy()
            flow(module, X.double(), Y.double())
            change = next(module.parameters()).detach().numpy() - start
            unit = start / np.linalg.norm(start)
            across = change - (change * unit).sum() * unit
            logs.append(np.log(np.linalg.norm(across) / np.linalg.norm(start)))
        got = found.estimate("change", layer="0", scale=scale, width=1.0).value
        assert got == pytest.approx(np.exp(np.mean(logs)), rel=1e-9)


def deep(width_factor: float = 1.0) -> nn.Module:
    return mlp.build(3, (round(20 * width_factor),) * 2, 2)


def test_matrices_that_grow_on_both_sides_are_measured_by_their_spectrum() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    subject = subject_of(
        deep, lambda *_: None, torch.float32, (x, x[:, 0].gt(0).long()), loss="cross_entropy"
    )
    layers = layers_of(subject, (0.5, 1.0, 2.0))
    assert [(layer.path, layer.square) for layer in layers] == [
        ("0", None), ("2", "2.weight"), ("4", None),
    ]  # fmt: skip
    module = deep()
    initial = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        weight = module.get_parameter("2.weight")
        weight.add_(torch.ones_like(weight))
    across, whole = moved(Retrained(module, initial, subject.examples("train"), 0.0), layers)
    start = initial["2.weight"].double().numpy()
    rest = np.ones_like(start) - start * start.sum() / (start**2).sum()
    assert across["2"] == pytest.approx(np.linalg.norm(rest, 2) / np.linalg.norm(start, 2), 1e-5)
    assert whole["2"] == pytest.approx(20 / np.linalg.norm(start), 1e-5)
    assert across["0"] == whole["0"] == 0


def test_another_start_scales_all_that_was_drawn_and_no_gain() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Linear(3, 1))
    module[3].weight.requires_grad_(False)
    assert batch_normalized(module)
    assert list(drawn_parameters(module)) == [
        "0.weight", "0.bias", "1.bias", "2.bias", "3.bias",
    ]  # fmt: skip


def test_what_starts_at_zero_has_no_relative_change() -> None:
    """Shifts of a normalization and a branch that starts at zero are left out, a head is not."""

    def build(width_factor: float = 1.0) -> nn.Module:
        units = round(8 * width_factor)
        module = nn.Sequential(
            nn.Linear(10, units), nn.BatchNorm1d(units), nn.ReLU(),
            nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 2),
        )  # fmt: skip
        for layer in (module[3], module[5]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        with torch.no_grad():
            module[3].bias.add_(torch.arange(units) % 2)
        return module

    train, _ = parity()
    subject = subject_of(build, descend, torch.float32, train, loss="cross_entropy")
    assert [layer.path for layer in layers_of(subject, (1.0, 2.0))] == ["0", "5"]
    found = measured(subject, widths=(1, 2), scales=(1,))
    assert np.isfinite(found.values("furthest_slope")).all()
    assert np.isnan(found.values("change", layer="5")).all()


# ---- what another start does ------------------------------------------------------------


def descend(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def parity() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Signs of a product of two of ten entries: lazy networks need more rows than there are."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(2, (400, 10), generator=generator) * 2.0 - 1
    y = (x[:, 0] * x[:, 1]).gt(0).long()
    return (x[:40], y[:40]), (x[120:], y[120:])


def wide(width_factor: float = 1.0) -> nn.Module:
    return mlp.build(10, (round(64 * width_factor),), 2)


@cache
def parities() -> tuple[Subject, Measurement]:
    train, test = parity()
    subject = subject_of(wide, descend, torch.float32, train, test=test, loss="cross_entropy")
    return subject, measured(subject, widths=(1,), scales=(0.125, 4))


def test_a_small_start_learns_a_parity_that_a_large_one_does_not() -> None:
    subject, found = parities()
    small, large = (found.estimate("score_change", other=s) for s in (0.125, 4.0))
    assert small.low > 0 > large.value
    ratios = [found.estimate("direction_ratio", other=s) for s in (0.125, 4.0)]
    assert ratios[0].high < 0.8 < 0.95 < ratios[1].low
    panel = asked(subject, found)
    assert "From a start ×0.125, accuracy changes by" in panel.lead
    assert "No regime can be named: one width was trained" in panel.lead
    assert [finding.key for finding in panel.findings] == [
        "another_start_predicts_better", "smaller_start_condenses",
    ]  # fmt: skip
    assert panel.assumptions[1].status == "cannot be checked"


def altered(found: Measurement, **numbers: tuple[float, float, float]) -> Measurement:
    dataset = found.dataset.copy(deep=True)
    for name, three in numbers.items():
        for suffix, value in zip(("", "_low", "_high"), three, strict=True):
            dataset[name + suffix][...] = value
    return Measurement(dataset)


NAN = (math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("law", "words", "key"),
    [
        ((0.0, -0.05, 0.05), "move as far at every width", None),
        ((-0.1, -0.3, 0.1), "The regime cannot be told", None),
        ((-0.2, -0.3, -0.1), "as in the linear regime", "features_move_less"),
        ((0.2, 0.1, 0.3), "as in the condensed regime", "features_move_more"),
        (NAN, "not every width could be trained", None),
    ],
)
def test_a_regime_is_named_only_from_the_interval_of_the_exponent(
    law: tuple[float, float, float], words: str, key: str | None
) -> None:
    subject, found = phase(0.5, torch.float64)
    panel = asked(subject, altered(found, furthest_slope=law))
    assert words in panel.lead
    assert [finding.key for finding in panel.findings] == ([key] if key else [])
    assert panel.lead.count("regime") == 1 or key is None


@pytest.mark.parametrize(
    ("change", "ratio", "keys"),
    [
        ((0.05, 0.02, 0.08), (0.9, 0.8, 1.1), ["another_start_predicts_better"]),
        ((0.05, -0.02, 0.1), (0.4, 0.3, 0.5), ["smaller_start_condenses"]),
        ((-0.05, -0.08, -0.02), (0.4, 0.3, 0.5), []),
        ((0.0, -0.02, 0.02), (0.7, 0.6, 0.8), []),
        (NAN, NAN, []),
    ],
)
def test_what_is_advised_follows_the_effects(
    change: tuple[float, float, float], ratio: tuple[float, float, float], keys: list[str]
) -> None:
    subject, found = parities()
    found = altered(found, score_change_joint=change, score_change=change, direction_ratio=ratio)
    panel = asked(subject, found)
    assert [finding.key for finding in panel.findings] == keys
    for finding in panel.findings:
        assert "nan" not in finding.numbers + finding.advice
    if not keys and math.isnan(change[0]):
        assert "From a start ×4 a run diverged." in panel.lead


def test_training_that_gets_further_at_some_width_is_said() -> None:
    subject, found = phase(0.5, torch.float64)
    dataset = found.dataset.copy(deep=True)
    for suffix in ("", "_low", "_high"):
        dataset[f"train_loss{suffix}"][...] = [[0.2, 0.1, 0.05]]
    panel = asked(subject, Measurement(dataset))
    assert panel.assumptions[1].status == "not met"
    assert "0.200, 0.100, 0.0500" in panel.assumptions[1].text


# ---- refusals ---------------------------------------------------------------------------


def test_runs_that_diverge_are_counted_and_nothing_is_said_of_them() -> None:
    def explodes(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        descend(model, inputs, targets)
        with torch.no_grad():
            if model.get_parameter("2.weight").abs().max() > 20 or len(model[0].weight) > 64:  # type: ignore[index]
                next(model.parameters()).fill_(math.inf)

    train, test = parity()
    subject = subject_of(wide, explodes, torch.float32, train, test=test, loss="cross_entropy")
    found = measured(subject, widths=(1, 2), scales=(1,))
    assert found.values("diverged").tolist() == [[0, 3]]
    assert np.isnan(found.values("furthest_slope")).all()
    assert np.isfinite(found.values("change", width=1.0)).all()
    assert "No regime can be named: not every width" in asked(subject, found).lead


def test_what_cannot_be_measured_is_refused_with_a_sentence() -> None:
    def fixed() -> nn.Module:
        return wide()

    def same(width_factor: float = 1.0) -> nn.Module:
        return wide()

    def shallow(width_factor: float = 1.0) -> nn.Module:
        return nn.Linear(10, 2)

    train, _ = parity()

    def tried(build: Callable[..., nn.Module], **options: object) -> str:
        subject = subject_of(build, descend, torch.float32, train, loss="cross_entropy")
        found = measure("weight-change", subject, options=options)
        assert isinstance(found, NotApplicable)
        return found.reason

    assert "takes no argument 'width_factor'" in tried(fixed, widths=(1, 2))
    assert "more parameters" in tried(same)
    assert "before the last one" in tried(shallow, widths=(1,))
    subject = subject_of(wide, descend, torch.float32, train, loss="cross_entropy")
    for options, sentence in (
        ({"widths": (0, 1)}, "widths: found 0, 1; wanted numbers above 0"),
        ({"scales": (math.inf,)}, "scales: found inf; wanted numbers above 0"),
        ({"starts": (1,)}, "options: found 'starts'; wanted one of widths, scales"),
    ):
        with pytest.raises(InputError) as error:
            measure("weight-change", subject, options=options)
        assert sentence in str(error.value)
    with pytest.raises(InputError) as error:
        measure("fit", subject, options={"widths": (1,)})
    assert "none: fit has no options" in str(error.value)
