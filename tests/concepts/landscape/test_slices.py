"""Slices of the loss against the loss of networks that are moved by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.cases import CASES
from tests.concepts.curvature.dense import dense_hessian, subject
from torch import nn

from whynet.concepts.landscape.slices import loss_slice
from whynet.core.errors import InputError
from whynet.models.subject import Subject

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def scaled(factor: float, dtype: torch.dtype = torch.float64) -> Subject:
    """A ReLU network whose first two layers are scaled by a factor and its inverse."""
    case = CASES["relu-mlp"]
    module = case.build()
    first, second = (part for part in list(module)[:3] if isinstance(part, nn.Linear))
    with torch.no_grad():
        first.weight *= factor
        first.bias *= factor
        second.weight /= factor
    return Subject(module, train=case.train, dtype=dtype)


@DTYPES
def test_the_middle_is_the_network_and_filters_have_its_lengths(dtype: torch.dtype) -> None:
    ours = scaled(1, dtype)
    found = loss_slice(ours, dimensions=2, points=5)
    inputs, targets = CASES["relu-mlp"].train
    with torch.no_grad():
        outputs = copy.deepcopy(ours.module)(inputs.to(dtype))
    wanted = nn.functional.cross_entropy(outputs, targets)
    assert found.center == pytest.approx(float(wanted), rel=1e-5)
    assert found.loss.shape == (5, 5)
    matrices = [p for p in ours.parameters.values() if p.ndim > 1]
    length = float(torch.cat([p.reshape(-1) for p in matrices]).norm())
    assert found.lengths == pytest.approx([length] * 2, rel=1e-5)


def test_a_slice_is_the_same_under_rescaling_of_layers() -> None:
    """What filter normalization is for. Biases of the first layer move with its scale alone."""
    plain, other = (loss_slice(scaled(by), points=7, seed=3) for by in (1.0, 10.0))
    np.testing.assert_allclose(other.loss, plain.loss, rtol=1e-6)
    assert np.ptp(plain.loss) > 0.05
    assert not np.allclose(loss_slice(scaled(1.0), points=7, seed=4).loss, plain.loss, rtol=1e-2)


def test_along_an_eigenvector_the_loss_bends_as_its_eigenvalue_says() -> None:
    found = loss_slice(subject("tanh-mlp"), points=3, span=1e-3, directions="eigenvectors")
    bend = found.loss[0] + found.loss[2] - 2 * found.loss[1]
    step = 1e-3 * found.lengths[0]
    top = float(torch.linalg.eigvalsh(dense_hessian("tanh-mlp"))[-1])
    assert bend / step**2 == pytest.approx(top, rel=1e-2)


def test_an_eigenvector_is_followed_as_far_as_curvature_raises_the_loss_by_one() -> None:
    found = loss_slice(subject("tanh-mlp"), points=3, directions="eigenvectors")
    top = float(torch.linalg.eigvalsh(dense_hessian("tanh-mlp"))[-1])
    reach = found.positions[-1] * found.lengths[0]
    assert top * reach**2 / 2 == pytest.approx(1.0, rel=1e-2)
    assert loss_slice(subject("tanh-mlp"), points=3).positions[-1] == 1.0


def test_batch_normalization_is_reset_at_every_point() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    data = torch.randn(40, 4), torch.arange(40) % 3
    found = loss_slice(Subject(module, train=data), points=3)
    assert "reset at every point" in found.notes[1]
    assert np.isfinite(found.loss).all()


def test_what_is_refused() -> None:
    ours = subject("tanh-mlp")
    for argument, value in (("dimensions", 3), ("points", 4), ("span", 0), ("directions", "up")):
        with pytest.raises(InputError, match=f"{argument}: found"):
            loss_slice(ours, **{argument: value})
