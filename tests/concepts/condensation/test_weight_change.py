"""Movement of weights over a width ladder: known exponents, traps and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.concepts.condensation.laddering import (
    FITTED,
    X,
    Y,
    descend,
    family,
    flow,
    measured,
    parity,
    phase,
    subject_of,
    wide,
)
from torch import Tensor, nn

from whynet.concepts.condensation.width_ladder import layers_of, moved
from whynet.concepts.measuring import measure
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.batch_norm import batch_normalized
from whynet.models.families import mlp
from whynet.models.retraining import Retrained, Variation
from whynet.models.starting_weights import drawn_parameters


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
