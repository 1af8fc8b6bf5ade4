"""Spectrum, layers and alignment of the tangent kernel by hand; the linearized network in time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from whynet import InputError, Subject, kernels
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.derivatives.empirical_ntk import plan_ntk
from whynet.derivatives.ntk_of_rows import ntk_traces


def jacobian(subject: Subject, x: Tensor) -> dict[str, Tensor]:
    """Return `[n, C, parameters]` of each parameter, by `jacrev`."""
    found = jacrev(lambda p: functional_call(subject.module, p, (x,)).flatten(1))(
        subject.parameters
    )
    return {name: part.flatten(2) for name, part in found.items()}


def measured(subject: Subject) -> Measurement:
    found = measure("kernel-spectrum", subject)
    assert isinstance(found, Measurement)
    return found


def test_numbers_of_few_rows_are_those_of_the_kernel_written_out() -> None:
    subject = CASES["tanh-mlp"].subject(dtype=torch.float64)
    found = measured(subject)
    x, labels = subject.examples("train").take(range(48), dtype=torch.float64)
    parts = jacobian(subject, x)
    flat = torch.cat(list(parts.values()), dim=2)
    kernel = (torch.einsum("icp,jcp->ij", flat, flat) / 3).numpy()
    values = np.linalg.eigvalsh(kernel)[::-1] / 48
    for rank in range(5):
        assert found.estimate("eigenvalue", rank=rank + 1).value == pytest.approx(values[rank])
    rank = values.sum() ** 2 / (values**2).sum()
    assert found.estimate("effective_rank").value == pytest.approx(rank)
    condition = np.log10(values[0] / values[-1])
    assert found.estimate("log10_condition").value == pytest.approx(condition, rel=1e-6)
    total = float(flat.square().sum())
    for layer in ("0", "2", "4"):
        own = sum(float(parts[f"{layer}.{name}"].square().sum()) for name in ("weight", "bias"))
        assert found.estimate("layer_share", layer=layer).value == pytest.approx(own / total)
    onehot = np.eye(3)[labels.numpy()]
    middle = np.eye(48) - 1 / 48
    inner, outer = middle @ kernel @ middle, middle @ onehot @ onehot.T @ middle
    wanted = (inner * outer).sum() / np.linalg.norm(inner) / np.linalg.norm(outer)
    assert found.estimate("alignment", kernel="centered").value == pytest.approx(wanted)
    raw = (kernel * (onehot @ onehot.T)).sum()
    raw /= np.linalg.norm(kernel) * np.linalg.norm(onehot @ onehot.T)
    assert found.estimate("alignment", kernel="uncentered").value == pytest.approx(raw)
    assert found.estimate("eigenvalue", rank=1).kind == "exact"
    assert found.estimate("shuffled_alignment", kernel="centered").kind == "interval"


def test_a_constant_kernel_has_uncentered_alignment_only() -> None:
    """One over the root of the classes, for nothing: why the centered number stands beside it."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), 4)

    data = (torch.randn(40, 2), torch.arange(40) % 4)
    found = measured(Subject(Constant(), train=data, loss="cross_entropy"))
    assert found.estimate("alignment", kernel="uncentered").value == pytest.approx(0.5)
    assert found.estimate("shuffled_alignment", kernel="uncentered").value == pytest.approx(0.5)
    assert found.estimate("alignment", kernel="centered").value == 0
    assert found.estimate("log10_condition").value == pytest.approx(12)
    assert found.estimate("layer_share", layer="bias").value == 1


@pytest.mark.parametrize("name", ["gru", "attention", "tied-weights", "tokens"])
def test_traces_of_every_parameter_add_up(name: str) -> None:
    subject = CASES[name].subject(dtype=torch.float64)
    inputs, _ = subject.examples("train").take(range(6), dtype=torch.float64)
    plan = plan_ntk(subject, inputs)
    found = ntk_traces(subject, inputs, plan=plan)
    blocks = kernels.ntk(subject, inputs, outputs="block", plan=plan)
    total = torch.stack(list(found.values())).sum(0)
    assert torch.allclose(total, blocks.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-12)
    shares = kernels.layer_shares(subject, "train", rows=6)
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {key.rpartition(".")[0] or key for key in found}


def test_refusals() -> None:
    x = torch.randn(20, 3)
    module = nn.Linear(3, 2)
    equal = Subject(module, train=(x, torch.zeros(20, dtype=torch.long)), loss="cross_entropy")
    few = Subject(module, train=(x[:5], torch.arange(5) % 2), loss="cross_entropy")
    for subject, said in ((equal, "are equal"), (few, "fewer than 10 training rows")):
        found = measure("kernel-spectrum", subject)
        assert isinstance(found, NotApplicable)
        assert said in found.reason
    with pytest.raises(InputError, match=r"subject: found a network without initial weights"):
        kernels.lazy(few, "train")
    with pytest.raises(InputError, match=r"times: found \(-1,\)"):
        kernels.lazy(few, "train", times=(-1,))


def test_the_linearized_network_in_time_is_what_small_steps_reach() -> None:
    """A network that is linear in its parameters is its own linearization: Euler steps follow."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(15, 3, generator=generator), torch.randn(15, 2, generator=generator)
    new = torch.randn(6, 3, generator=generator)
    torch.manual_seed(1)
    start, steps, rate = nn.Linear(3, 2).double(), 4000, 1e-3
    weight = torch.cat([start.weight, start.bias[:, None]], dim=1).detach()
    features = torch.cat([x, torch.ones(15, 1)], dim=1).double()
    for _ in range(steps):
        weight = weight - rate * (features @ weight.T - y.double()).T @ features / 15
    end = nn.Linear(3, 2).double()
    with torch.no_grad():
        end.weight.copy_(weight[:, :3])
        end.bias.copy_(weight[:, 3])
    subject = Subject(end, train=(x, y), test=(new, torch.zeros(6, 2)), loss="mse", initial=start)
    found = kernels.lazy(subject, times=(0.0, steps * rate, np.inf))
    assert found.full
    assert np.allclose(found.outputs[0], found.start)
    assert np.allclose(found.outputs[1], found.network, atol=2e-3)
    assert found.distance[1] < 3e-3 < 0.02 < found.distance[2]
    solution = torch.linalg.lstsq(features, y.double()).solution
    best = torch.cat([new.double(), torch.ones(6, 1)], dim=1) @ solution
    assert np.allclose(found.outputs[2], best.numpy(), atol=1e-8)
