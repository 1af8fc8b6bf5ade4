"""The functions of `whynet.curvature` against dense spectra of small networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import CASES
from tests.concepts.curvature.dense import (
    dense_gauss_newton,
    dense_hessian,
    example_gradients,
    subject,
)
from torch import nn

import whynet
from whynet.core.errors import InputError
from whynet.models.subject import Subject

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


@DTYPES
@pytest.mark.parametrize("name", ["tanh-mlp", "attention"])
def test_the_ends_of_the_spectrum(name: str, dtype: torch.dtype) -> None:
    values, vectors = np.linalg.eigh(dense_hessian(name).numpy())
    found = whynet.curvature.spectrum(CASES[name].subject(dtype=dtype), k=5, smallest=2)
    assert found.converged
    top = values[::-1][:5]
    slack = 1e-5 * values[-1] if dtype == torch.float32 else 1e-10
    for estimate, true in zip(found.largest, top, strict=True):
        assert estimate.value == pytest.approx(true, rel=2e-3)
        assert estimate.low - slack <= true <= estimate.high + slack
    assert found.smallest[0].low - slack <= values[0] <= found.smallest[0].high + slack
    assert [e.kind for e in found.largest] == ["certified", *["indicative"] * 4]
    assert found.largest[0].width < 0.05 * values[-1]
    ratio = found.negative_ratio
    assert ratio.low - 1e-5 <= -values[0] / values[-1] <= ratio.high + 1e-5
    gradient = example_gradients(name).numpy().mean(0)
    share = np.sum((vectors[:, -5:].T @ gradient) ** 2) / np.sum(gradient**2)
    assert found.gradient_share.low - 1e-4 <= share <= found.gradient_share.high + 1e-4
    assert found.random_share == pytest.approx(5 / len(values))


def test_other_matrices_and_parts_of_the_parameters() -> None:
    ours, matrix = subject("tanh-mlp"), dense_gauss_newton("tanh-mlp").numpy()
    for name in ("gauss-newton", "fisher"):
        found = whynet.curvature.spectrum(ours, k=3, smallest=0, matrix=name)
        assert found.largest[0].value == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-3)
        assert found.smallest == ()
        assert np.isnan(found.negative_ratio.value)
    part = whynet.curvature.spectrum(ours, k=2, parameters="0")
    block = dense_hessian("tanh-mlp").numpy()[:70, :70]
    assert part.largest[0].value == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=1e-3)
    with pytest.raises(InputError, match="matrix: found 'hesian'; wanted one of hessian"):
        whynet.curvature.spectrum(ours, matrix="hesian")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k: found 157 and 1 of 157"):
        whynet.curvature.spectrum(ours, k=157)


def test_the_density_is_near_the_dense_spectrum() -> None:
    values = np.linalg.eigvalsh(dense_hessian("attention").numpy())
    found = whynet.curvature.density(subject("attention"))
    assert found.distance(values) < 1e-3 * values[-1]


def test_traces_norm_and_diagonal() -> None:
    ours, matrix = subject("tanh-mlp"), dense_hessian("tanh-mlp").numpy()
    quick = whynet.curvature.trace(ours)
    assert quick.low <= np.trace(matrix) <= quick.high
    more = whynet.curvature.trace(ours, products=140)
    assert more.width < 0.3 * quick.width
    assert abs(more.value - np.trace(matrix)) <= more.width
    found = whynet.curvature.moments(ours, probes=100)
    # Each interval misses one time in twenty: what is asked is that nothing is far out.
    for estimate, true in (
        (found.trace, np.trace(matrix)),
        (found.frobenius_norm, np.linalg.norm(matrix)),
    ):
        assert abs(estimate.value - true) <= 1.5 * (estimate.high - estimate.low)
    assert list(found.layers) == list(ours.parameters)
    assert sum(e.value for e in found.layers.values()) == pytest.approx(found.trace.value)
    start = 0
    for name, estimate in found.layers.items():
        stop = start + ours.parameters[name].numel()
        true = np.trace(matrix[start:stop, start:stop])
        assert abs(estimate.value - true) <= 1.5 * (estimate.high - estimate.low)
        start = stop
    off = np.abs(found.diagonal - np.diagonal(matrix)) / found.diagonal_error.clip(1e-9)
    assert (off < 3).mean() > 0.98


def test_the_log_determinant_is_at_a_stated_ridge() -> None:
    ours, values = subject("tanh-mlp"), np.linalg.eigvalsh(dense_gauss_newton("tanh-mlp").numpy())
    found = whynet.curvature.log_determinant(ours, 0.01)
    true = np.log(values.clip(0) + 0.01).sum()
    assert abs(found.value - true) <= 1.5 * (found.high - found.low)
    assert found.high - found.low < 0.05 * abs(true)
    assert "0.01 I" in found.how
    with pytest.raises(InputError, match="ridge: found 0"):
        whynet.curvature.log_determinant(ours, 0.0)


def rescaled(factor: float) -> Subject:
    """A ReLU network whose layers are scaled by a factor and its inverse: the same function."""
    case = CASES["relu-mlp"]
    module = case.build()
    first, second = (part for part in list(module)[:3] if isinstance(part, nn.Linear))
    with torch.no_grad():
        first.weight *= factor
        first.bias *= factor
        second.weight /= factor
    return Subject(module, train=case.train, dtype=torch.float64)


def test_adaptive_sharpness_does_not_depend_on_the_scale_of_layers() -> None:
    plain, scaled = (whynet.curvature.adaptive_sharpness(rescaled(by)) for by in (1.0, 10.0))
    assert scaled.value == pytest.approx(plain.value, rel=1e-3)
    sharp = [whynet.curvature.spectrum(rescaled(by), k=1).largest[0].value for by in (1.0, 10.0)]
    assert sharp[1] > 5 * sharp[0]
    case = CASES["relu-mlp"]
    point = torch.cat([p.detach().double().reshape(-1) for p in case.build().parameters()]).abs()
    whole = point[:, None] * dense_hessian("relu-mlp") * point
    true = float(torch.linalg.eigvalsh(whole)[-1])
    assert plain.low <= true <= plain.high
    assert plain.value == pytest.approx(true, rel=1e-3)


def test_the_noise_scale_is_that_of_all_examples() -> None:
    gradients = example_gradients("tanh-mlp").numpy()
    covariance = np.cov(gradients.T, ddof=1)
    true = np.trace(covariance) / np.sum(gradients.mean(0) ** 2)
    found = whynet.curvature.noise_scale(subject("tanh-mlp"), groups=48)
    assert found.value == pytest.approx(true, rel=1e-6), "every row is a group: nothing is drawn"
    few = whynet.curvature.noise_scale(subject("tanh-mlp"), groups=16)
    assert few.low <= true <= few.high
    assert (few.kind, found.kind) == ("indicative", "interval")
    with pytest.raises(InputError, match="groups: found 60 for 48 rows"):
        whynet.curvature.noise_scale(subject("tanh-mlp"), groups=60)


@DTYPES
def test_the_saddle_index_is_bracketed(dtype: torch.dtype) -> None:
    name = "tanh-mlp"
    values = np.linalg.eigvalsh(dense_hessian(name).numpy())
    ours, inside, widths = CASES[name].subject(dtype=dtype), [], []
    for seed in range(6):
        found = whynet.curvature.saddle_index(ours, share=0.02, seed=seed)
        true = int((values < -found.threshold).sum())
        assert found.threshold == pytest.approx(0.02 * values[-1], rel=1e-2)
        assert 3 <= found.least <= true
        inside.append(found.count.low <= true <= found.count.high)
        widths.append(found.count.width)
        assert abs(found.count.value - true) <= 0.1 * true
    assert sum(inside) >= 5
    assert found.count.kind == "interval"
    assert np.mean(widths) < 0.07 * len(values)


def test_a_minimum_has_no_saddle_index() -> None:
    """The control: squares of a linear model have no negative eigenvalue."""
    x = torch.tensor(np.random.default_rng(0).standard_normal((60, 5)))
    module = nn.Linear(5, 1).double()
    ours = Subject(module, train=(x, x[:, :1]), loss="mse", dtype=torch.float64)
    found = whynet.curvature.saddle_index(ours)
    assert (found.count.low, found.least) == (0, 0)
    assert found.count.high < 1
    with pytest.raises(InputError, match="share: found 0; wanted a share"):
        whynet.curvature.saddle_index(ours, share=0)
