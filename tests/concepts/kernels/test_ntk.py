"""`whynet.kernels.ntk` against `jacrev`, on every way in which a network may use a parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from tests.cases import CASES
from tests.derivatives.watched_networks import Recurrent
from tests.models.test_hugging_face import subject as sentences_of
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from whynet import InputError, Subject, kernels
from whynet.derivatives import ntk_operator as operators
from whynet.derivatives.empirical_ntk import plan_ntk
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.gradient_parts import Factored, Written
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.families import mlp, transformer

CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Language(nn.Module):
    """Tokens with a padding row, places, a token of the whole, and the table again as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6, padding_idx=1)
        self.place = nn.Parameter(normal(1, 4, 6))
        self.order = nn.Embedding(5, 6)
        self.whole = nn.Parameter(normal(1, 1, 6, seed=2))
        self.gain = nn.Parameter(1 + 0.1 * normal(6))
        self.norm = nn.RMSNorm(6)
        self.layer = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(1, 5, device=tokens.device)[None]
        hidden = self.table(tokens) + self.place + self.order(places)
        hidden = torch.cat([self.whole.expand(len(tokens), -1, -1), hidden], dim=1)
        for _ in range(2):
            hidden = hidden + self.gain * torch.tanh(self.layer(self.norm(hidden)))
        return functional.linear(hidden.mean(1), self.table.weight)


class Matrices(nn.Module):
    """Plain products: `x @ W`, `addmm`, a transposed weight, a weight times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(normal(5, 7))
        self.second = nn.Parameter(normal(7, 4, seed=1))
        self.bias = nn.Parameter(normal(4, seed=2))
        self.third = nn.Parameter(normal(3, 4, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.addmm(self.bias, torch.tanh(x @ (self.first / 2.0)), self.second)
        return torch.relu(hidden) @ (0.5 * self.third).t() + hidden @ self.third.T


class Steps(nn.Module):
    """Rows second: a recurrent cell of dense layers over steps, `[steps, rows, features]`."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.again = nn.Linear(3, 5), nn.Linear(5, 5, bias=False)
        self.last = nn.Linear(5, 2)

    def forward(self, series: Tensor) -> Tensor:
        read = self.read(series.transpose(0, 1))
        hidden = read.new_zeros(read.shape[1:])
        for one in read:
            hidden = torch.tanh(one + self.again(hidden))
        return self.last(hidden)


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2), dilation=(1, 2)),
        nn.GroupNorm(2, 4), nn.GELU(),
        nn.Conv2d(4, 6, 2, groups=2, bias=False), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(),
        nn.LazyLinear(3),
    )  # fmt: skip


def _made(make: Callable[[], nn.Module], x: Tensor) -> nn.Module:
    torch.manual_seed(1)
    module = make()
    module.train()
    with torch.no_grad():
        module(x)  # lazy layers, running statistics
    return module.eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: mlp.build(5, [9, 7], 3, "gelu"), normal(5, 5)),
    "ntk-parametrization": (lambda: mlp.build(5, [9, 7], 3, parametrization="ntk"), normal(5, 5)),
    "convolutions": (_convolutions, normal(5, 2, 7, 8)),
    "one-dimension": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)),
        normal(5, 3, 8),
    ),
    "three-dimensions": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)),
        normal(5, 2, 3, 3, 3),
    ),
    "transformer": (
        lambda: transformer.build((1, 4, 4), 2, 3, width=8, depth=1, heads=2),
        normal(5, 1, 4, 4),
    ),
    "language": (Language, torch.randint(9, (5, 4), generator=torch.Generator().manual_seed(3))),
    "matrices": (Matrices, normal(5, 5)),
    "steps": (Steps, normal(5, 4, 3)),
    "recurrent": (Recurrent, normal(5, 4, 3)),
    "encoder": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(12, 2),
        ),
        normal(5, 3, 4),
    ),
}


def held(name: str, dtype: torch.dtype = torch.float64) -> tuple[Subject, Tensor]:
    make, x = NETWORKS[name]
    module = _made(make, x)
    with torch.no_grad():
        shape = module(x).shape
    subject = Subject(module, train=(x, torch.zeros(shape)), loss="mse", dtype=dtype)
    return subject, x.to(dtype) if x.is_floating_point() else x


def reference(subject: Subject, x: Tensor) -> Tensor:
    """Return `[n, n, C, C]` by `jacrev` of the module itself, in float64."""
    wide = subject.in_precision(torch.float64)
    given = x.double() if x.is_floating_point() else x
    fixed = {**wide.frozen}

    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(wide.module, {**fixed, **parameters}, (given,))
        return found.flatten(1)

    with exact_kernels():
        parts = jacrev(outputs, chunk_size=1)(wide.parameters)
    flat = torch.cat([part.flatten(2) for part in parts.values()], dim=2)
    return torch.einsum("icp,jdp->ijcd", flat, flat)


def gap(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("dtype", CLOSE, ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_agrees_with_jacrev(name: str, dtype: torch.dtype) -> None:
    subject, x = held(name, dtype)
    plan = plan_ntk(subject, x)
    assert plan.rest == (), "all uses of parameters are known"
    wanted, close = reference(subject, x), CLOSE[dtype]
    count = wanted.shape[2]
    traced = torch.einsum("ijcc->ij", wanted)
    assert gap(kernels.ntk(subject, plan=plan), wanted) < close
    assert gap(kernels.ntk(subject, outputs="per-output", plan=plan),
               torch.einsum("ijcc->ijc", wanted)) < close  # fmt: skip
    assert gap(kernels.ntk(subject, outputs="trace", plan=plan), traced) < close
    assert gap(kernels.ntk(subject, outputs="mean", plan=plan), traced / count) < close
    assert gap(kernels.ntk(subject, outputs="block", plan=plan),
               torch.einsum("iicd->icd", wanted)) < close  # fmt: skip
    assert gap(kernels.ntk(subject, x[:2], x[1:], plan=plan), wanted[:2, 1:]) < close


def test_factors_of_several_positions_agree_with_gradients_written_out() -> None:
    """A wide layer at few positions is kept as factors of several positions."""
    wide = nn.Sequential(nn.Linear(40, 40), nn.Tanh(), nn.Flatten(), nn.Linear(80, 2))
    x = normal(6, 2, 40)
    subject = Subject(wide, train=(x, torch.zeros(6, 2)), loss="mse", dtype=torch.float64)
    plan = plan_ntk(subject, x.double())
    assert [(p.way, p.single) for p in plan.parts] == [("factors", False), ("factors", True)]
    wanted = reference(subject, x)
    assert gap(kernels.ntk(subject, plan=plan), wanted) < 1e-12
    for form, equation in (("trace", "ijcc->ij"), ("per-output", "ijcc->ijc")):
        assert gap(kernels.ntk(subject, outputs=form, plan=plan),  # type: ignore[arg-type]
                   torch.einsum(equation, wanted)) < 1e-12  # fmt: skip
    assert gap(kernels.ntk(subject, outputs="block"), torch.einsum("iicd->icd", wanted)) < 1e-12


def _dense(subject: Subject, inputs: Any) -> Tensor:
    full = kernels.ntk(subject, inputs).permute(0, 2, 1, 3)
    return full.reshape(full.shape[0] * full.shape[1], -1)


@pytest.mark.parametrize("name", ["language", "convolutions", "steps", "mlp"])
@pytest.mark.parametrize("memory", [2**29, 2**20], ids=["held", "passes"])
def test_products_are_those_of_the_kernel(
    name: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, x = held(name)
    wanted = _dense(subject, x)
    if memory < 2**29:
        monkeypatch.setattr(operators, "BATCH", 2)
        kernel = operators.ntk_operator(subject, x, memory=1)
        assert kernel.held is None
    else:
        kernel = kernels.ntk_product(subject, memory=memory)
        assert kernel.held is not None
    columns = normal(len(wanted), 3, seed=5).double()
    assert kernel.shape == tuple(wanted.shape)
    assert gap(kernel @ columns, wanted @ columns) < 1e-10
    assert gap(kernel.T @ columns[:, 0], wanted @ columns[:, 0]) < 1e-10
    left, right = columns[:, 1] @ (kernel @ columns[:, 0]), columns[:, 0] @ (kernel @ columns[:, 1])
    assert float(left) == pytest.approx(float(right), rel=1e-10)
    scipy = kernel.to_scipy()
    top = eigsh(scipy, 2, v0=np.ones(len(wanted)), return_eigenvectors=False)
    assert np.allclose(np.sort(top), torch.linalg.eigvalsh(wanted)[-2:].numpy(), rtol=1e-8)


@pytest.mark.parametrize("name", ["gru", "attention", "dropout", "batch-norm"])
def test_products_of_other_networks_by_passes(name: str) -> None:
    subject = CASES[name].subject(dtype=torch.float64)
    inputs, _ = subject.examples("train").take(range(4), dtype=torch.float64)
    kernel = operators.ntk_operator(subject, inputs, memory=1)
    columns = normal(kernel.shape[0], 2, seed=5).double()
    assert gap(kernel @ columns, _dense(subject, inputs) @ columns) < 1e-10


def test_memory_is_kept_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block of gradients is larger than the budget, and the kernel is the same."""
    subject, x = held("mlp")
    plan: NtkPlan = plan_ntk(subject, x)
    seen: list[int] = []
    from whynet.derivatives import empirical_ntk as module

    true = module.gradients

    def watched(subject: Subject, inputs: Tensor, plan: NtkPlan) -> Any:
        seen.append(len(inputs))
        return true(subject, inputs, plan)

    monkeypatch.setattr(module, "gradients", watched)
    whole = module.empirical_ntk(subject, x, form="full", plan=plan)
    assert max(seen) == len(x)
    seen.clear()
    cut = module.empirical_ntk(
        subject, x, form="full", plan=plan, memory=2 * 8 * 2 * plan.peak_numbers
    )
    assert max(seen) == 2
    assert gap(cut, whole) < 1e-12


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_networks_of_hugging_face_are_taken_use_by_use(kind: str) -> None:
    """Masked sentences; every parameter of BERT and GPT-2 is used in a known way."""
    subject = sentences_of(kind, torch.float64)
    inputs, _ = subject.examples("train").take(range(4), dtype=torch.float64)
    plan = plan_ntk(subject, inputs)
    assert plan.rest == ()
    assert plan.together
    parts = jacrev(lambda p: subject.forward(p, inputs).flatten(1))(subject.parameters)
    flat = torch.cat([part.flatten(2) for part in parts.values()], dim=2)
    wanted = torch.einsum("icp,jdp->ijcd", flat, flat)
    assert gap(kernels.ntk(subject, inputs, plan=plan), wanted) < 1e-10


def test_sums_over_many_parameters_keep_their_digits() -> None:
    """Six million numbers of one sign, added up one after another in float32, lose half of them."""
    jacobian = 1 + torch.rand(2, 1, 6_000_000, generator=torch.Generator().manual_seed(0))
    held = Written(jacobian)
    wanted = jacobian[:, 0].double() @ jacobian[:, 0].double().T
    for form, shape in (("trace", (2, 2)), ("full", (2, 1, 2, 1))):
        found = held.products(held, form)  # type: ignore[arg-type]
        assert found.shape == shape
        assert gap(found.reshape(2, 2), wanted) < 2e-6
    assert gap(held.own().flatten(), wanted.diagonal()) < 2e-6
    directions = jacobian[:, 0]
    assert gap(held.pushed(directions)[:, 0], wanted) < 2e-6


@pytest.mark.parametrize("form", ["full", "per-output", "trace"])
def test_sums_over_many_positions_keep_their_digits(form: str) -> None:
    """Of 400 positions there are 160,000 pairs, and of 200 units each as many products."""
    generator = torch.Generator().manual_seed(0)
    entering = 1 + torch.rand(2, 400, 3, generator=generator)
    returning = 1 + torch.rand(2, 2, 400, 200, generator=generator)
    held, exact = (
        Factored(entering.to(d), returning.to(d)) for d in (torch.float32, torch.float64)
    )
    written = Written(exact.written_out())
    assert gap(held.products(held, form), written.products(written, form)) < 2e-6  # type: ignore[arg-type]
    assert gap(held.own(), written.own()) < 2e-6
    directions = 1 + torch.rand(2, 600, generator=generator)
    assert gap(held.pushed(directions), written.pushed(directions.double())) < 2e-6


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.rand(1)


def test_refusals_name_the_argument() -> None:
    subject, x = held("mlp")
    with pytest.raises(InputError, match=r"outputs: found 'all'; wanted one of full"):
        kernels.ntk(subject, outputs="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"inputs: found 'valid'; wanted train, test"):
        kernels.ntk(subject, "valid")
    with pytest.raises(InputError, match=r"test: found no data"):
        kernels.ntk(subject, "test")
    with pytest.raises(InputError, match=r"rows: found 0"):
        kernels.ntk(subject, rows=0)
    with pytest.raises(InputError, match=r"memory: found 12"):
        kernels.ntk(subject, memory=12)
    with pytest.raises(InputError, match=r"other: found a second side"):
        kernels.ntk(subject, other=x, outputs="block")
    with pytest.raises(InputError, match=r"vectors: found an array of shape \(4,\)"):
        kernels.ntk_product(subject) @ np.zeros(4)
    drawing = Subject(Random(), train=(normal(5, 4), torch.zeros(5, 2)), loss="mse")
    with pytest.raises(InputError, match=r"subject: found a network that draws random numbers"):
        kernels.ntk(drawing)
