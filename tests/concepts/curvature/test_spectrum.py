"""Spectra of small networks agree with dense matrices that PyTorch and numpy compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import CASES, mean_loss
from torch import nn

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject

HESSIAN, NEWTON = "hessian-spectrum", "gauss-newton-spectrum"
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def taken(instrument: str, subject: Subject, **options: int) -> Measurement:
    found = measure(instrument, subject, **options)
    assert isinstance(found, Measurement), found
    return found


def dense_hessian(subject: Subject) -> np.ndarray:
    """The Hessian of the mean training loss in float64, by `torch.func` and PyTorch's loss."""
    module = subject.module.double()
    parameters = {n: p.detach().double() for n, p in module.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]
    inputs, targets = subject.examples("train").take(range(subject.facts.train_examples))
    inputs = inputs.double()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        pieces = flat.split(sizes)
        held = {
            name: piece.reshape(parameters[name].shape)
            for name, piece in zip(parameters, pieces, strict=True)
        }
        outputs = torch.func.functional_call(module, held, (inputs,))
        return mean_loss(subject.loss.name, outputs, targets)

    point = torch.cat([p.reshape(-1) for p in parameters.values()])
    return np.asarray(torch.func.jacrev(torch.func.grad(loss))(point).numpy())


@DTYPES
@pytest.mark.parametrize("case", ["relu-mlp", "tanh-mlp", "regression", "binary", "linear"])
def test_the_hessian_agrees_with_the_dense_one(case: str, dtype: torch.dtype) -> None:
    values = np.linalg.eigvalsh(dense_hessian(CASES[case].subject(dtype=torch.float64)))
    found = taken(HESSIAN, CASES[case].subject(dtype=dtype, batch_size=20))
    slack = 1e-5 * values[-1] if dtype == torch.float32 else 1e-9
    for name, true in (("largest", values[-1]), ("smallest", values[0])):
        estimate = found.estimate(name)
        assert estimate.kind == "certified"
        assert estimate.low - slack <= true <= estimate.high + slack
        assert estimate.width < 0.05 * values[-1]
        assert estimate.value == pytest.approx(true, abs=0.02 * values[-1])
    trace = found.estimate("trace")
    assert abs(trace.value - values.sum()) <= 1.2 * trace.width
    subject = CASES[case].subject(dtype=torch.float64)
    scale = torch.cat([p.reshape(-1) for p in subject.parameters.values()]).abs().numpy()
    scaled = np.linalg.eigvalsh(scale[:, None] * dense_hessian(subject) * scale)[-1]
    adaptive = found.estimate("adaptive_sharpness")
    assert adaptive.kind == "certified"
    assert adaptive.value == pytest.approx(scaled, rel=1e-3)
    assert 0 <= found.estimate("gradient_share").value <= 1 + 1e-9
    assert found.estimate("top", rank=1).value == pytest.approx(values[-1], rel=1e-4)
    ratio = found.estimate("negative_ratio")
    assert ratio.low - 1e-6 <= max(0.0, -values[0]) / values[-1] <= ratio.high + 1e-6


@DTYPES
def test_the_share_of_negative_eigenvalues_is_bracketed(dtype: torch.dtype) -> None:
    values = np.linalg.eigvalsh(dense_hessian(CASES["tanh-mlp"].subject(dtype=torch.float64)))
    subject = CASES["tanh-mlp"].subject(dtype=dtype)
    inside, widths = [], []
    for seed in range(4):
        found = taken(HESSIAN, subject, seed=seed)
        for depth in found.dataset["depth"].values:
            share = found.estimate("negative_share", depth=float(depth))
            true = float((values < -depth * values[-1]).mean())
            inside.append(share.low <= true <= share.high)
            widths.append(share.width)
    assert np.mean(inside) >= 0.9
    assert np.mean(widths) < 0.45


def test_a_convex_loss_has_no_negative_share() -> None:
    """The control: of the linear model nothing lies below the first depths."""
    found = taken(HESSIAN, CASES["linear"].subject(dtype=torch.float64))
    for depth in (0.1, 0.01):
        share = found.estimate("negative_share", depth=depth)
        assert (share.low, share.value, share.high) == (0.0, 0.0, 0.0)


def test_more_rounds_shorten_the_bar_of_the_trace() -> None:
    values = np.linalg.eigvalsh(dense_hessian(CASES["tanh-mlp"].subject(dtype=torch.float64)))
    subject = CASES["tanh-mlp"].subject(dtype=torch.float64)
    one, nine = (taken(HESSIAN, subject, rounds=rounds).estimate("trace") for rounds in (1, 9))
    assert nine.width < 0.5 * one.width
    assert abs(nine.value - values.sum()) <= nine.width


@DTYPES
def test_the_gauss_newton_matrix_of_a_linear_network_is_its_hessian(dtype: torch.dtype) -> None:
    subject = CASES["linear"].subject(dtype=dtype)
    values = np.linalg.eigvalsh(dense_hessian(CASES["linear"].subject(dtype=torch.float64)))
    newton, hessian = taken(NEWTON, subject), taken(HESSIAN, subject)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert newton.estimate("largest").value == pytest.approx(values[-1], rel=tolerance)
    np.testing.assert_allclose(
        newton.values("top"), hessian.values("top"), rtol=10 * tolerance, atol=tolerance
    )


@DTYPES
@pytest.mark.parametrize("case", ["relu-mlp", "regression"])
def test_the_gauss_newton_matrix_agrees_with_its_definition(case: str, dtype: torch.dtype) -> None:
    """J' (diag p - p p') J / n for cross-entropy, 2 J' J / n for squares, J by `jacrev`."""
    wide = CASES[case].subject(dtype=torch.float64)
    inputs, _ = wide.examples("train").take(range(wide.facts.train_examples))
    module, parameters = wide.module, dict(wide.parameters)

    def outputs(held: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(module, held, (inputs.double(),))

    jacobian = torch.cat(
        [part.flatten(2) for part in torch.func.jacrev(outputs)(parameters).values()], dim=2
    ).detach()
    if case == "regression":
        middle = 2 * torch.ones(len(inputs), 1, 1, dtype=torch.float64)
    else:
        chance = outputs(parameters).detach().softmax(1)
        middle = torch.diag_embed(chance) - chance[:, :, None] * chance[:, None]
    matrix = torch.einsum("nkp,nkl,nlq->pq", jacobian, middle, jacobian) / len(inputs)
    values = np.linalg.eigvalsh(matrix.numpy())
    found = taken(NEWTON, CASES[case].subject(dtype=dtype))
    assert found.estimate("largest").value == pytest.approx(values[-1], rel=1e-5)
    np.testing.assert_allclose(found.values("top")[:4], values[::-1][:4], rtol=1e-3)
    trace = found.estimate("trace")
    assert abs(trace.value - values.sum()) <= 1.2 * trace.width
    slack = 1e-5 * values[-1]
    assert found.estimate("smallest").low <= values[0] + slack
    start = 0
    for name, parameter in parameters.items():
        stop = start + parameter.numel()
        layer = found.estimate("layer_trace", parameter=name)
        assert abs(layer.value - matrix[start:stop, start:stop].trace()) <= 1.2 * layer.width
        start = stop
    norm = found.estimate("frobenius_norm")
    assert abs(norm.value - np.linalg.norm(matrix.numpy())) <= 1.2 * norm.width


def test_the_density_is_a_density_near_the_true_one_and_claims_no_coverage() -> None:
    """Its band leaves out the bias of finite steps, so that it is indicative (49 % covered)."""
    subject = CASES["relu-mlp"].subject(dtype=torch.float64)
    values = np.linalg.eigvalsh(dense_hessian(subject))
    found = taken(HESSIAN, subject)
    place, density = found.values("coordinate"), found.values("density")
    assert found.dataset["density"].attrs["kind"] == "indicative"
    assert np.trapezoid(density, place) == pytest.approx(1.0, abs=0.02)
    true = np.sort(np.arcsinh(values / float(found.values("threshold"))))
    cumulative = np.cumsum(density) * (place[1] - place[0])
    for level in (-4.0, 4.0):
        assert np.interp(level, place, cumulative) == pytest.approx(
            float((true <= level).mean()), abs=0.06
        )


def test_steps_without_orthogonality_do_not_blur_the_density_in_float32() -> None:
    """These spectra are mostly zero, on which float32 lost orthogonality within 16 steps."""
    for case in ("lstm", "binary"):
        narrow, wide = (
            taken(HESSIAN, CASES[case].subject(dtype=dtype)).values("density")
            for dtype in (torch.float32, torch.float64)
        )
        np.testing.assert_allclose(narrow, wide, atol=0.02 * wide.max())


def test_probes_in_small_groups_are_as_many_and_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from whynet.concepts.curvature import spectrum_rounds as spectrum

    subject = CASES["tanh-mlp"].subject(dtype=torch.float64)
    values = np.linalg.eigvalsh(dense_hessian(CASES["tanh-mlp"].subject(dtype=torch.float64)))
    monkeypatch.setattr(spectrum, "BASIS_NUMBERS", 7 * 16 * 157)
    state = spectrum.begin(subject, 0, "hessian")
    assert not isinstance(state, NotApplicable)
    state = spectrum.with_quadrature(spectrum.with_extremes(state))
    assert state.samples[0].shape == (30,)
    assert len(np.unique(state.samples[0])) == 30
    trace = spectrum.trace(state)
    assert abs(trace.value - values.sum()) <= 1.2 * trace.width


def test_the_saddle_of_a_known_quadratic_is_measured() -> None:
    """Loss (ab - 1)^2 at a = b = 0: eigenvalues 2 and -2 are known, gradient zero."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(1))
            self.b = nn.Parameter(torch.zeros(1))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs * self.a * self.b

    ones = torch.ones(4, 1)
    found = taken(HESSIAN, Subject(Product(), train=(ones, ones), loss="mse"))
    assert found.estimate("largest").value == pytest.approx(2.0, rel=1e-5)
    assert found.estimate("smallest").value == pytest.approx(-2.0, rel=1e-5)
    assert found.estimate("gradient_norm").value == pytest.approx(0.0, abs=1e-7)
    assert found.estimate("negative_ratio").value == pytest.approx(1.0, rel=1e-5)


def test_without_training_data_or_parameters_it_does_not_apply() -> None:
    case = CASES["linear"]
    for options, word in (({"train": None}, "training data"), ({}, "trainable")):
        module = case.build()
        if not options:
            module.requires_grad_(False)
        settings = {"train": case.train, "test": case.test, **options}
        found = measure(HESSIAN, Subject(module, **settings))
        assert isinstance(found, NotApplicable)
        assert word in found.reason
