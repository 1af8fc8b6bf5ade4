"""Recalibrated statistics are those of PyTorch's own pass with all rows in one batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn

from whynet.models import batch_norm
from whynet.models.batch_norm import recalibrate
from whynet.models.data import Examples


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5), nn.Linear(5, 3),
    ).double()  # fmt: skip


def rows() -> Tensor:
    return 2 + 3 * torch.randn(41, 2, 6, 6, dtype=torch.float64, generator=torch.manual_seed(5))


def whole(module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Let PyTorch average over one batch of everything (momentum None: a plain mean)."""
    other = copy.deepcopy(module).train()
    for child in other.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.reset_running_stats()
            child.momentum = None
    with torch.no_grad():
        other(inputs)
    return {name: value for name, value in other.state_dict().items() if "running" in name}


@pytest.mark.parametrize("size", [1, 3, 20, 41])
def test_the_statistics_are_those_of_all_rows_in_one_batch(size: int) -> None:
    module, inputs = network().eval(), rows()
    wanted = whole(module, inputs)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in inputs.split(size):
            yield part, torch.zeros(len(part))

    assert recalibrate(module, batches)
    held = module.state_dict()
    for name, value in wanted.items():
        torch.testing.assert_close(held[name], value, rtol=1e-12, atol=1e-12)
    assert not any(child.training for child in module.modules())
    assert not any(child._forward_pre_hooks for child in module.modules())


def test_averages_of_batch_variances_would_be_others() -> None:
    module, inputs = network().eval(), rows()
    within = torch.stack([whole(module, part)["1.running_var"] for part in inputs.split(3)]).mean(0)
    assert not torch.allclose(within, whole(module, inputs)["1.running_var"], rtol=1e-3)


def test_a_constant_channel_has_no_variance_and_a_large_mean_costs_no_digits() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2)).eval()
    inputs = torch.stack([torch.full((50,), 3.0), 1e4 + torch.arange(50) / 50], 1)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield from ((part, part) for part in inputs.split(7))

    assert recalibrate(module, batches)
    variance = module.state_dict()["0.running_var"]
    assert variance[0] == 0
    torch.testing.assert_close(variance[1], inputs[:, 1].double().var().float())


def test_a_layer_without_running_statistics_is_left_alone() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval()
    inputs = torch.randn(4, 2)
    assert not recalibrate(module, lambda: iter([(inputs, inputs)]))


def test_many_layers_take_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "ROW_PASSES", 0)
    data = Examples.from_arrays(torch.arange(5000.0)[:, None], torch.zeros(5000))
    module = nn.BatchNorm1d(1).eval()
    form = {"device": torch.device("cpu"), "dtype": torch.float32}
    assert batch_norm.recalibrated_on(module, data, 512, **form)
    assert module.running_mean is not None
    assert module.running_mean.item() == pytest.approx(2499.5, abs=1)


def test_the_batch_size_moves_no_output_before_training() -> None:
    case = CASES["batch-norm"]
    found = []
    for size in (5, 48):
        initial = case.subject(initial=case.initial(), batch_size=size).initial
        assert initial is not None
        found.append(initial.outputs("test")[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
