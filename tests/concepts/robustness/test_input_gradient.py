"""Input gradients against closed forms of linear networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from whynet.concepts.measuring import measure
from whynet.concepts.robustness.instruments import input_gradient as instrument
from whynet.core.measurement import Measurement
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject
from whynet.training.supervised import seeded

ROWS, FEATURES = 90, 5


def data(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(ROWS, FEATURES, generator=generator), torch.arange(ROWS) % classes


def linear(outputs: int) -> nn.Linear:
    with seeded(7):
        return nn.Linear(FEATURES, outputs)


def measured(held: Subject) -> Measurement:
    before = fingerprint(held.module)
    found = measure("input-gradient", held)
    assert fingerprint(held.module) == before
    assert isinstance(found, Measurement)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifier(dtype: torch.dtype, classes: int) -> None:
    x, labels = data(classes)
    module = linear(classes)
    found = measured(Subject(module, test=(x, labels), dtype=dtype, batch_size=40))
    weight, bias = (p.detach().double().numpy() for p in (module.weight, module.bias))
    rows, y = x.double().numpy(), labels.numpy()
    scores = rows @ weight.T + bias
    others = scores.copy()
    others[np.arange(ROWS), y] = -np.inf
    rival = others.argmax(1)
    lead = scores[np.arange(ROWS), y] - scores[np.arange(ROWS), rival]
    slope = weight[y] - weight[rival]
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    chances[np.arange(ROWS), y] -= 1
    for name, gradient in (("margin", slope), ("loss", chances @ weight)):
        norms = np.stack([np.abs(gradient).sum(1), np.linalg.norm(gradient, axis=1)], 1)
        np.testing.assert_allclose(found.values(f"{name}_gradient"), norms.mean(0), rtol=1e-5)
        np.testing.assert_allclose(
            found.values(f"{name}_gradient_median"), np.median(norms, 0), rtol=1e-5
        )
    wanted = [
        np.median(lead / np.abs(slope).sum(1)),
        np.median(lead / np.linalg.norm(slope, axis=1)),
    ]
    np.testing.assert_allclose(found.values("distance"), wanted, rtol=1e-4, atol=1e-6)
    assert found.dataset["change"].values.tolist() == ["linf", "l2"]


def test_linear_regression_gives_the_norm_of_its_weights() -> None:
    x, _ = data(2)
    module = linear(3)
    found = measured(Subject(module, test=(x, torch.randn(ROWS, 3)), loss="mse"))
    weight = module.weight.detach()
    norms = [float(weight.abs().sum()), float(weight.norm())]
    np.testing.assert_allclose(found.values("output_gradient"), norms, rtol=1e-5)
    np.testing.assert_allclose(found.values("output_gradient_median"), norms, rtol=1e-5)
    assert "distance" not in found.names


def test_one_logit() -> None:
    x, labels = data(2)
    module = linear(1)
    found = measured(Subject(module, test=(x, labels.float()), loss="bce"))
    weight = module.weight.detach()
    norms = [float(weight.abs().sum()), float(weight.norm())]
    np.testing.assert_allclose(found.values("margin_gradient"), norms, rtol=1e-5)


def test_a_constant_network_has_no_distance() -> None:
    x, labels = data(2)
    module = linear(2)
    with torch.no_grad():
        module.weight.zero_()
    found = measured(Subject(module, test=(x, labels)))
    assert np.isnan(found.values("distance")).all()
    assert found.values("margin_gradient").tolist() == [0, 0]


def test_medians_cover() -> None:
    generator = np.random.default_rng(0)
    hits = [
        estimate.low <= 1.0 <= estimate.high
        for estimate in (
            instrument.median(np.exp(generator.standard_normal(101))) for _ in range(1000)
        )
    ]
    assert 930 <= sum(hits) <= 990, sum(hits)
    assert instrument.median(np.arange(4.0)).kind == "indicative"


def test_skewed_means_are_only_indicative() -> None:
    x, labels = data(2)
    x[0] *= 1000
    held = Subject(nn.Sequential(linear(2), nn.ELU()), test=(x, labels))
    assert measured(held).dataset["loss_gradient"].attrs["kind"] in ("interval", "indicative")
    skewed = np.ones(90)
    skewed[0] = 1000
    assert instrument._mean(skewed).kind == "indicative"
    assert instrument._mean(np.arange(90.0)).kind == "interval"
