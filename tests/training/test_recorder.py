"""The recorder: numbers against dense autograd, training undisturbed, its schedule and words."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.preservation import fingerprint, global_state
from whynet.models.trajectory import Trajectory
from whynet.training import recorder as module_of_recorder
from whynet.training.recorded import MEASURED
from whynet.training.recorder import Recorder

ROWS = 40


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    return x.to(dtype), (x[:, 0] + x[:, 1] ** 2 > 0.5).long()


def normalized(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 2)
    ).to(dtype)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: tuple[Tensor, Tensor],
    steps: int,
    log: Any = None,
    size: int = 16,
) -> None:
    generator = torch.Generator().manual_seed(3)
    model.train()
    for step in range(1, steps + 1):
        chosen = torch.randperm(len(rows[1]), generator=generator)[:size]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(rows[0][chosen]), rows[1][chosen])
        loss.backward()
        optimizer.step()
        if log is not None:
            log(step, {"loss": loss, "optimizer": optimizer})


def dense(model: nn.Module, rows: tuple[Tensor, Tensor]) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient and Hessian with batch statistics and no dropout, by plain autograd."""
    ours = copy.deepcopy(model).eval()
    ours[1].train()  # type: ignore[index]
    names, values = zip(*((n, p.detach()) for n, p in ours.named_parameters()), strict=True)
    sizes = [v.numel() for v in values]

    def loss(flat: Tensor) -> Tensor:
        parts = [p.reshape(v.shape) for p, v in zip(flat.split(sizes), values, strict=True)]
        buffers = {n: b.clone() for n, b in ours.named_buffers()}
        state = dict(zip(names, parts, strict=True)) | buffers
        return functional.cross_entropy(
            torch.func.functional_call(ours, state, (rows[0],)), rows[1]
        )

    flat = torch.cat([v.reshape(-1) for v in values])
    return (
        float(loss(flat)),
        torch.func.grad(loss)(flat),
        torch.func.jacrev(torch.func.grad(loss))(flat),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batch_normalization_and_decay_against_dense_autograd(dtype: torch.dtype) -> None:
    model, rows = normalized(dtype), data(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5, weight_decay=0.03)
    recorder = Recorder(model, train=rows, steps=[6], seed=5)
    fit(model, optimizer, rows, 6, recorder)
    found = recorder.trajectory()
    value, slope, curvature = dense(model, rows)
    decayed = curvature + 0.03 * torch.eye(len(curvature), dtype=dtype)
    largest = float(torch.linalg.eigvalsh(decayed.double())[-1])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    assert found.estimate("loss").value == pytest.approx(value, rel=tolerance)
    assert found.estimate("loss").kind == "exact"  # all training rows are recorded
    assert found.estimate("gradient_norm").value == pytest.approx(float(slope.norm()), rel=1e-4)
    sharpness = found.estimate("sharpness")
    assert sharpness.value == pytest.approx(largest, rel=1e-3)
    assert sharpness.low <= largest * (1 + 1e-5)
    assert largest * (1 - 1e-5) <= sharpness.high
    trace = found.estimate("trace")
    assert abs(trace.value - float(decayed.trace())) <= trace.width
    assert trace.kind == "interval"
    assert trace.width < abs(trace.value)
    assert found.estimate("stability_limit").value == pytest.approx(2 * 1.5 / 0.1)
    assert found.estimate("sharpness_over_limit").value == pytest.approx(largest / 30, rel=1e-3)


def test_evaluation_mode_would_be_another_number() -> None:
    model, rows = normalized(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(model, train=rows, steps=[6])
    fit(model, optimizer, rows, 6, recorder)
    evaluated = functional.cross_entropy(copy.deepcopy(model).eval()(rows[0]), rows[1]).item()
    assert recorder.trajectory().estimate("loss").value != pytest.approx(evaluated, rel=1e-3)


def test_adams_preconditioned_sharpness_against_dense_autograd() -> None:
    model, rows = normalized(), data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    recorder = Recorder(model, train=rows, steps=[9])
    fit(model, optimizer, rows, 9, recorder)
    _, _, curvature = dense(model, rows)
    roots = []
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        second = (state["exp_avg_sq"] / (1 - 0.999**9)).sqrt() + 1e-8
        roots.append((second * (1 - 0.9**9)).reshape(-1) ** -0.5)
    root = torch.cat(roots)
    largest = float(torch.linalg.eigvalsh(root[:, None] * curvature * root)[-1])
    limit = (2 / 0.01 - 0.1) * 1.9 / 0.1
    found = recorder.trajectory()
    ratio = found.estimate("sharpness_over_limit")
    assert ratio.value == pytest.approx(largest / limit, rel=1e-3)
    assert ratio.low <= largest / limit * (1 + 1e-9) <= ratio.high * (1 + 1e-6)
    assert math.isnan(found.estimate("sharpness").value)
    assert "preconditioned" in found.dataset["sharpness"].attrs["missing"]


SETTINGS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_training_ends_at_the_same_bits(name: str, dtype: torch.dtype) -> None:
    ends = []
    for recorded in (False, True):
        model, rows = normalized(dtype), data(dtype)
        optimizer = SETTINGS[name](model.parameters())
        torch.manual_seed(4)
        recorder = Recorder(model, train=rows, share=None, every=1) if recorded else None
        fit(model, optimizer, rows, 12, recorder)
        if recorder is not None:
            assert recorder.trajectory().steps == tuple(range(13))
        ends.append((model.state_dict(), optimizer.state_dict()["state"], torch.rand(3)))
    for key, value in ends[0][0].items():
        assert torch.equal(value, ends[1][0][key]), key
    for index, state in ends[0][1].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(ends[1][1][index][key]))
    assert torch.equal(ends[0][2], ends[1][2])  # dropout drew the same numbers


def test_the_network_and_the_world_are_as_before() -> None:
    model, rows = normalized(), data()
    functional.cross_entropy(model(rows[0]), rows[1]).backward()
    model[3].eval()  # type: ignore[index]
    before, world = fingerprint(model), global_state()
    recorder = Recorder(model, train=rows, share=None, every=1)
    with torch.no_grad():
        recorder(1, {})
    with torch.inference_mode():
        recorder(2, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recorder(3, {})
    assert fingerprint(model) == before
    assert global_state() == world
    losses = recorder.trajectory().values("loss")
    assert np.ptp(losses) == 0  # the loop's modes change nothing


def test_the_same_run_gives_the_same_bits() -> None:
    found = []
    for _ in range(2):
        model, rows = normalized(), data()
        recorder = Recorder(model, train=rows, steps=[2, 5], rows=24, seed=3)
        fit(model, SETTINGS["sgd"](model.parameters()), rows, 7, recorder)
        found.append(recorder.trajectory())
    assert found[0].dataset.identical(found[1].dataset)
    assert found[0].steps == (0, 2, 5, 7)


def test_a_linear_network_has_a_still_kernel() -> None:
    x, y = data()
    model = nn.Linear(5, 2).double()
    recorder = Recorder(model, train=(x, y), steps=[3])
    fit(model, torch.optim.SGD(model.parameters(), lr=0.5), (x, y), 3, recorder)
    found = recorder.trajectory()
    assert found.estimate("kernel_shape_drift").value == pytest.approx(0, abs=1e-12)
    assert found.estimate("kernel_trace_ratio").value == pytest.approx(1)
    assert found.estimate("kernel_shape_drift").kind == "indicative"
    assert math.isnan(found.estimate("feature_rank").value)
    assert "reads the inputs themselves" in found.dataset["feature_rank"].attrs["missing"]


def test_scaling_the_features_scales_the_kernel_and_keeps_its_shape() -> None:
    x, y = data()
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    model.double()
    recorder = Recorder(model, train=(x, y), steps=[1], quantities=["kernel", "norms"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    recorder(1)
    found = recorder.trajectory()
    assert found.estimate("kernel_shape_drift").value == pytest.approx(0, abs=1e-9)
    assert found.estimate("kernel_trace_ratio").value == pytest.approx(4)
    start = found.estimate("weight_norm", 0).value
    assert found.estimate("distance_from_start").value == pytest.approx(start)
    assert "loss" not in found.names


def test_the_feature_rank_is_the_participation_ratio() -> None:
    model, rows = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double(), data()
    found = Recorder(model, train=rows, steps=[]).trajectory().estimate("feature_rank")
    covariance = np.cov(model[:2](rows[0]).detach().numpy().T)
    ratio = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert found.low <= ratio <= found.high
    assert found.value == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_network_gets_numbers_or_reasons(name: str) -> None:
    case = CASES[name]
    model = case.build()
    recorder = Recorder(model, train=case.train, loss=case.loss, output=case.output, steps=[])
    found = recorder.trajectory()
    assert set(found.names) >= {n for names in MEASURED.values() for n in names}
    for quantity in found.names:
        if not np.isfinite(found.values(quantity)).all():
            assert found.dataset[quantity].attrs["missing"].endswith("."), quantity
            assert "failed" not in found.dataset[quantity].attrs["missing"], quantity
    for quantity in ("loss", "weight_norm", "gradient_norm", "noise_scale"):
        assert np.isfinite(found.values(quantity)).all(), quantity


def test_weights_that_are_not_finite_have_no_numbers() -> None:
    model, rows = normalized(), data()
    recorder = Recorder(model, train=rows, steps=[1])
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan  # type: ignore[index]
    recorder(1, {"loss": math.nan})
    found = recorder.trajectory()
    for name in ("loss", "sharpness", "noise_scale", "weight_norm", "kernel_shape_drift"):
        assert math.isnan(found.estimate(name).value), name
        assert "NaN or infinite" in found.dataset[name].attrs["missing"]
    assert found.dataset["logged_loss"].attrs["missing"]


def test_scalars_of_the_loop_are_kept_as_they_are() -> None:
    model, rows = normalized(), data()
    recorder = Recorder(model, train=rows, steps=[1, 2], quantities=["loss"], batch_size=8)
    recorder(1, {"loss": torch.tensor(0.5), "accuracy": 0.25, "odd": "text"})
    recorder(2, {"loss": 0.75, "batch_size": 16})
    found = recorder.trajectory()
    assert found.values("logged_loss").tolist()[1:] == [0.5, 0.75]
    assert found.estimate("accuracy", 1).value == 0.25
    assert math.isnan(found.estimate("accuracy", 2).value)
    assert found.values("batch_size").tolist() == [8, 8, 16]
    assert "no number" in found.dataset["odd"].attrs["missing"]


class Clock:
    """A clock that training moves by a second a step and measuring by two."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def budgeted(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Trajectory, float, float]:
    clock = Clock()
    monkeypatch.setattr(module_of_recorder, "time", clock)
    plain = module_of_recorder.measured

    def slow(*args: Any) -> Any:
        clock.now += 2
        return plain(*args)

    monkeypatch.setattr(module_of_recorder, "measured", slow)
    recorder = Recorder(normalized(), train=data(), quantities=["loss"], **options)
    for step in range(1, 201):
        clock.now += 1
        recorder(step)
    spent, whole = recorder.seconds, clock.now
    return recorder.trajectory(), spent, whole


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_measuring_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    found, spent, whole = budgeted(monkeypatch, every=1, share=share)
    assert spent <= share * whole
    assert spent >= 0.8 * share * whole  # and uses it
    assert found.steps[0] == 0
    assert found.steps[-1] == 200


def test_a_growing_schedule_waits_for_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    found, spent, whole = budgeted(monkeypatch, share=0.1)
    assert spent <= 0.1 * whole
    free, _, _ = budgeted(monkeypatch, share=None)
    assert free.steps == (0, 1, 2, 3, 5, 8, 12, 17, 25, 36, 51, 73, 104, 148, 200)
    assert len(found.steps) < len(free.steps)


def test_named_steps_are_measured_whatever_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _, _ = budgeted(monkeypatch, steps=[3, 4, 5], share=0.01)
    assert found.steps == (0, 3, 4, 5, 200)


BAD: list[tuple[str, Mapping[str, Any]]] = [
    ("model", {"model": lambda x: x}),
    ("model", {"model": nn.ReLU()}),
    ("train", {"train": 5}),
    ("loss", {"loss": "hinge"}),
    ("share", {"share": 0}),
    ("share", {"share": 1.5}),
    ("every", {"every": 0}),
    ("every", {"every": 2, "steps": [1]}),
    ("steps", {"steps": [1.5]}),
    ("rows", {"rows": 3}),
    ("quantities", {"quantities": ["loss", "hessian"]}),
    ("quantities", {"quantities": "loss"}),
    ("quantities", {"quantities": []}),
    ("batch_size", {"batch_size": 0}),
]


@pytest.mark.parametrize(("argument", "options"), BAD)
def test_refusals(argument: str, options: Mapping[str, Any]) -> None:
    settings = {"model": normalized(), "train": data(), **options}
    with pytest.raises(InputError) as caught:
        Recorder(settings.pop("model"), **settings)
    assert caught.value.argument == argument


def test_steps_that_do_not_rise_are_refused() -> None:
    recorder = Recorder(normalized(), train=data(), steps=[], quantities=["loss"])
    recorder(0)
    recorder(4)
    with pytest.raises(InputError, match="rise"):
        recorder(2)
    with pytest.raises(InputError, match="whole number"):
        recorder(5.5)  # type: ignore[arg-type]
