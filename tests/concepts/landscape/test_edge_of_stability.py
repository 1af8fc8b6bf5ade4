"""Sharpness along training, and the claim that descent trains at the edge of stability."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds
from torch import Tensor

from whynet.atlas.judging import CLAIM, Verdict
from whynet.concepts.landscape.claims import edge_of_stability as module
from whynet.concepts.landscape.sharpness_runs import forward, loss, sharpness_of


@cache
def smoke() -> tuple[Verdict, dict[str, Tables]]:
    return run("edge-of-stability")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sharpness_is_the_largest_eigenvalue_of_each_dense_hessian(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"w1": (5, 4), "b1": (4,), "w2": (4, 4), "b2": (4,), "w3": (4, 10), "b3": (10,)}
    stacked = {
        name: torch.randn(3, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    inputs = torch.randn(3, 20, 5, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 20, 10, generator=generator, dtype=torch.float64)

    def objective(own: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        return loss(forward(own, fixed["inputs"]), fixed["targets"])

    cast = {name: value.to(dtype) for name, value in stacked.items()}
    data = {"inputs": inputs.to(dtype), "targets": targets.to(dtype)}
    found = sharpness_of(objective, cast, data)
    for member in range(3):
        own = {name: value[member] for name, value in stacked.items()}
        fixed = {"inputs": inputs[member], "targets": targets[member]}
        flat = torch.cat([value.flatten() for value in own.values()])
        sizes = [value.numel() for value in own.values()]

        def of_flat(
            point: Tensor,
            own: dict[str, Tensor] = own,
            fixed: dict[str, Tensor] = fixed,
            sizes: list[int] = sizes,
        ) -> Tensor:
            pairs = zip(own.items(), point.split(sizes), strict=True)
            return objective({n: part.reshape(v.shape) for (n, v), part in pairs}, fixed)

        dense = torch.autograd.functional.hessian(of_flat, flat)
        largest = float(torch.linalg.eigvalsh(dense)[-1])
        assert float(found[member]) == pytest.approx(largest, rel=0.01)
        assert float(found[member]) <= largest * (1 + 1e-5)  # a bound from below


def test_it_is_supported_and_each_control_is_refuted() -> None:
    verdict, tables = smoke()
    assert verdict.state == "supported", verdict.sentence
    for name in ("few-rows", "last-layer", "small-step"):
        judged = module.judge(*tables[name])
        assert judged.state == "refuted", (name, judged.sentence)
        assert "late sharpness" in judged.sentence  # for the reason that is claimed


def test_a_wrong_measurement_flips_the_verdict() -> None:
    measured, predicted = smoke()[1][CLAIM]
    for name, factor in (("late", 0.7), ("late", 1.3), ("start", 2.0), ("fallen", 3.0)):
        wrong = measured.assign({name: measured[name] * factor})
        assert module.judge(wrong, predicted).state == "refuted", name
    other = predicted.assign(limit=predicted["limit"] * 1.5)  # that of momentum 0.5
    assert module.judge(measured, other).state == "refuted"
    unfinished = measured.assign(late=measured["late"] * np.nan)
    assert module.judge(unfinished, predicted).state == "inconclusive"


def made(generator: np.random.Generator, late: float, start: float, fallen: float) -> Tables:
    """Tables of ratios that scatter by 5 %, for one step size and momentum around what is given."""
    names, shape, coords = frame("edge-of-stability", "small")
    first = np.zeros(shape, dtype=bool)
    first[:, :, 0, 0] = True
    scatter = [1 + 0.05 * generator.standard_normal(shape) for _ in range(3)]
    values = {
        "late": np.where(first, late, 1.02) * scatter[0],
        "start": np.where(first, start, 0.4) * scatter[1],
        "fallen": np.where(first, fallen, 0.4) * scatter[2],
    }
    measured = xr.Dataset({name: (names, 5 * v) for name, v in values.items()}, coords)
    measured["fallen"] = measured["fallen"] / 5
    return measured, xr.Dataset({"limit": (names, np.full(shape, 5.0))}, coords)


MADE_UP = (
    at_null("late sharpness 0.85 of the limit, the band's edge",
            lambda g: made(g, 0.85, 0.4, 0.4)),
    at_null("1.15 of it", lambda g: made(g, 1.15, 0.4, 0.4)),
    at_null("sharpness at the start 0.8 of it", lambda g: made(g, 1.02, 0.8, 0.4)),
    holds("late sharpness 1.02 of it, 0.4 at the start", lambda g: made(g, 1.02, 0.4, 0.4)),
    fails("late sharpness 0.7 of it", lambda g: made(g, 0.7, 0.4, 0.4)),
)  # fmt: skip


def test_the_figure_draws() -> None:
    figure = Figure()
    module.draw(figure, *smoke()[1][CLAIM])
    assert figure.axes
