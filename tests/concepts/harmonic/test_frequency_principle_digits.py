"""Smooth and rough parts of what networks learn of the digits: filters, training, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.harmonic import digit_networks
from whynet.concepts.harmonic.claims import frequency_principle_digits as module
from whynet.core.claim import Cell


def test_filters_average_keep_constants_and_smooth_waves_by_their_frequency() -> None:
    line = np.linspace(0, 1, 400)[:, None]
    matrices = digit_networks.filters(line)
    np.testing.assert_allclose(matrices.sum(-1), 1, atol=1e-12)
    distances = np.abs(line - line.T)[np.triu_indices(400, 1)]
    inner = slice(150, 250)
    for matrix, width in zip(
        matrices[:2], np.quantile(distances, digit_networks.QUANTILES[:2]), strict=True
    ):
        for turns in (2, 6):
            wave = np.cos(2 * np.pi * turns * line[:, 0])
            kept = np.exp(-((2 * np.pi * turns * width) ** 2) / 2)
            np.testing.assert_allclose((matrix @ wave)[inner], kept * wave[inner], atol=2e-3)


def test_settling_times_of_exact_curves() -> None:
    steps = np.arange(0, 101, 10)
    falling, late = 1 - steps / 100, np.where(steps < 95, 1.0, 0.0)
    again = np.where((steps == 30) | (steps >= 60), 0.25, 0.75)
    errors = np.stack([falling, late, again, np.ones(11), 0 * steps + np.nan], 1)[None]
    errors[0, 0] = 1
    found = digit_networks.settling_times(steps, errors)
    np.testing.assert_allclose(found, [[50, 95, 55, 100, 100]])


def cell(seed: int = 0, **changes: float | str) -> Cell:
    parameters = {"rows": 30, "width": 8, "optimizer": "gradient-descent", "steps": 6,
                  "loss": "plain"}  # fmt: skip
    return Cell("frequency-principle-digits", 1, {**parameters, **changes}, seed)


@pytest.mark.parametrize("loss", ["plain", "rough"])
def test_errors_over_training_are_those_of_plain_descent(loss: str) -> None:
    steps, errors = digit_networks.part_errors([cell(0, loss=loss), cell(1, loss=loss)])
    x, y = (torch.from_numpy(part) for part in digit_networks.bundled(30, 0))
    matrices = torch.from_numpy(digit_networks.filters(x.numpy()))
    objective = digit_networks.loss_of(loss, matrices[1])
    own = {n: torch.from_numpy(v) for n, v in digit_networks.start_of(cell(1)).items()}
    for step in range(7):
        residual = digit_networks.forward(own, x) - y
        if step in steps:
            low = matrices @ residual
            wanted = torch.stack([
                low.flatten(1).norm(dim=1) / (matrices @ y).flatten(1).norm(dim=1),
                (residual - low).flatten(1).norm(dim=1)
                / (y - matrices @ y).flatten(1).norm(dim=1),
            ])  # fmt: skip
            place = list(steps).index(step)
            np.testing.assert_allclose(errors[1, place], wanted.numpy(), rtol=2e-4)
        gradients = torch.func.grad(lambda p: objective(digit_networks.forward(p, x), y))(own)
        own = {name: value - 0.02 * gradients[name] for name, value in own.items()}
    np.testing.assert_allclose(errors[:, 0], 1, rtol=1e-5)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("frequency-principle-digits")


def test_smooth_parts_come_first_and_last_under_the_control(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_measurements_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    swapped = measured.assign(
        smooth=measured["rough"].rename(rough_0="smooth_0"),
        rough=measured["smooth"].rename(smooth_0="rough_0"),
    )
    assert module.judge(swapped, predicted).state == "refuted"
    same = measured.assign(rough=measured["smooth"].rename(smooth_0="rough_0"))
    assert module.judge(same, predicted).state == "refuted"
    never = measured.assign({n: 0 * measured[n] + 200 for n in ("smooth", "rough")})
    assert module.judge(never, predicted).state == "inconclusive"


def settled(generator: np.random.Generator, ratio: float) -> Tables:
    """Steps after which parts settle, the rough ones `2^ratio` times the smooth ones."""
    names, shape, coords = frame("frequency-principle-digits", "smoke")
    shape = [*shape, 3]
    zero = xr.Dataset({"least_log_ratio": ([*names, "least_log_ratio_0"], np.zeros(shape))}, coords)
    rough = 10 * 2 ** (ratio + 0.2 * generator.normal(size=shape))
    tables = {"smooth": np.full(shape, 10.0), "rough": rough}
    return xr.Dataset({n: ([*names, f"{n}_0"], v) for n, v in tables.items()}, coords), zero


MADE_UP = (
    at_null("rough parts √2 times as late, the band's edge", lambda g: settled(g, 0.5)),
    holds("rough parts 1.74 times as late", lambda g: settled(g, 0.8)),
    fails("smooth and rough parts alike", lambda g: settled(g, 0.0)),
)
