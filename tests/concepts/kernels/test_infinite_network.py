"""Limits of infinite width against wide networks drawn at random, and against each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whynet import InputError, Subject, kernels
from whynet.concepts.kernels.theory.infinite_width import wide_kernels
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.models.families import mlp
from whynet.training.supervised import seeded

WIDTH, OUTPUTS, DRAWS = 256, 24, 10


class Residual(nn.Module):
    """Two blocks, each normalized, with a skip; a third branch is scaled by a number."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.first = nn.Linear(5, WIDTH)
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.last = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for norm, wide, back in zip(self.norms, self.wide, self.back, strict=True):
            hidden = hidden + 0.5 * back(torch.relu(wide(norm(hidden))))
        return self.last(hidden)


class Bent(nn.Module):
    """Layers around an activation that is a function; factors stand in the forward pass."""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.bend = bend
        self.one, self.two = nn.Parameter(torch.randn(WIDTH, 5)), nn.Parameter(torch.randn(WIDTH))
        self.last = nn.Parameter(torch.randn(OUTPUTS, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.linear(x, 0.6 * self.one, self.two * 0.5)
        return nn.functional.linear(self.bend(hidden), self.last / 16.0)


class Skipping(nn.Module):
    """A block of two convolutions with batch normalization, as in ResNets, and its skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 96, 3, padding=1, bias=False)
        self.one, self.two = (nn.Conv2d(96, 96, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(96, eps=0.3) for _ in range(2))
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(96, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        held = self.first(x)
        hidden = torch.relu(self.norms[0](self.one(torch.relu(held))))
        return self.last(
            torch.flatten(self.pool(torch.relu(self.norms[1](self.two(hidden)) + held)), 1)
        )


def images(*last: nn.Module, channels: int = 96, features: int | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1, stride=(1, 2)), nn.ReLU(),
        nn.Conv2d(channels, channels, 2), nn.LeakyReLU(0.2), *last,
        nn.Linear(features or channels, OUTPUTS),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: mlp.build(5, [WIDTH] * 2, OUTPUTS, parametrization="ntk"), (5,)),
    "gelu": (lambda: mlp.build(5, [WIDTH] * 2, OUTPUTS, "gelu", parametrization="ntk"), (5,)),
    "tanh": (lambda: mlp.build(5, [WIDTH], OUTPUTS, "tanh", parametrization="ntk"), (5,)),
    "standard": (lambda: mlp.build(5, [WIDTH] * 2, OUTPUTS), (5,)),
    "sine": (lambda: Bent(torch.sin), (5,)),
    "erf": (lambda: Bent(torch.erf), (5,)),
    "residual": (Residual, (5,)),
    "root-mean-square": (lambda: Residual(nn.RMSNorm), (5,)),
    "flattened": (lambda: images(nn.Flatten(), features=96 * 3 * 2), (2, 4, 5)),
    "pooled": (
        lambda: images(nn.AvgPool2d((2, 1)), nn.Flatten(), features=96 * 2), (2, 4, 5)
    ),
    "pooled-everywhere": (lambda: images(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 4, 5)),
    "without-scales": (
        lambda: Residual(partial(nn.LayerNorm, elementwise_affine=False)), (5,)
    ),
    "batch-norm": (
        lambda: nn.Sequential(
            nn.Linear(5, WIDTH), nn.BatchNorm1d(WIDTH, eps=0.5), nn.ReLU(),
            nn.Linear(WIDTH, OUTPUTS),
        ),
        (5,),
    ),
    "skipping": (Skipping, (2, 4, 5)),
    "series": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 128, 3), nn.SiLU(), nn.AvgPool1d(2), nn.Conv1d(128, 128, 2),
            nn.Softplus(), nn.Flatten(), nn.Linear(256, OUTPUTS),
        ),
        (3, 8),
    ),
}  # fmt: skip


def inputs(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(4))


def drawn(make: Callable[[], nn.Module], x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs' products and tangent kernels of some draws, each a mean over outputs."""
    values, tangents, plan = [], [], None
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        data = (x, torch.zeros(len(x), OUTPUTS))
        subject = Subject(make(), train=data, loss="mse")
        plan = plan or plan_ntk(subject, x)
        with torch.no_grad():
            outputs = subject.forward(subject.parameters, x)
        values.append((outputs @ outputs.T / OUTPUTS).numpy())
        tangents.append(empirical_ntk(subject, x, plan=plan).numpy())
    return np.array(values), np.array(tangents)


@pytest.mark.parametrize("name", NETWORKS)
def test_wide_networks_drawn_at_random_have_these_kernels(name: str) -> None:
    """Means over draws agree within five standard errors, and a few over the width."""
    make, shape = NETWORKS[name]
    torch.manual_seed(100)
    limit, x = kernels.infinite_width(make()), inputs(shape)
    found = limit.kernels(x.numpy())
    for wanted, draws in zip((found.covariance, found.tangent), drawn(make, x), strict=True):
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        error = draws.std(0, ddof=1) / np.sqrt(DRAWS)
        miss = (draws.mean(0) - wanted) / scale
        assert np.all(np.abs(miss) < 5 * error / scale + 3 / WIDTH), miss
    assert limit.error(x.numpy()) < 1e-9


def test_the_covariances_tell_the_architectures_apart() -> None:
    """So that the test above can fail: the kernel of another network is far outside."""
    x = inputs((2, 4, 5)).numpy()
    found = {
        name: kernels.infinite_width(NETWORKS[name][0]()).kernels(x).tangent
        for name in ("flattened", "pooled", "pooled-everywhere")
    }
    for one, other in (("flattened", "pooled"), ("pooled", "pooled-everywhere")):
        shapes = [k / np.sqrt(np.outer(np.diag(k), np.diag(k))) for k in (found[one], found[other])]
        assert np.abs(shapes[0] - shapes[1]).max() > 0.05


@pytest.mark.parametrize("depth", [1, 3])
def test_the_recursion_of_fully_connected_networks(depth: int) -> None:
    x = np.random.default_rng(1).standard_normal((7, 6))
    module = mlp.build(6, [32] * depth, 1, parametrization="ntk", bias=False)
    found = kernels.infinite_width(module).kernels(x)
    wanted = wide_kernels(x, depth)  # whose last layer has a variance of 2, not 1
    assert np.allclose(2 * found.covariance, wanted.covariance, rtol=1e-12)
    assert np.allclose(2 * found.tangent, wanted.tangent, rtol=1e-12)


def test_published_values() -> None:
    """Unit inputs at an angle of 60 degrees, and the same input: depth 1, 2, 3."""
    x = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    wanted = [(0.6089978, 0.9423311), (0.6839057, 1.3514796), (0.7381282, 1.7378447)]
    for depth, (covariance, tangent) in enumerate(wanted, 1):
        module = mlp.build(2, [8] * depth, 1, parametrization="ntk", bias=False)
        known = {name: 1.0 for name, _ in module.named_parameters()}
        found = kernels.infinite_width(module, variances=known).kernels(x)
        assert found.covariance[0, 1] == pytest.approx(covariance / 2, abs=5e-8)
        assert found.tangent[0, 1] == pytest.approx(tangent / 2, abs=5e-8)
        assert found.tangent[0, 0] == pytest.approx((depth + 1) / 2, abs=1e-12)


@pytest.mark.parametrize("name", ["residual", "pooled", "gelu"])
def test_tiles_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from whynet.concepts.kernels.theory import infinite_network as module

    make, shape = NETWORKS[name]
    limit, x = kernels.infinite_width(make()), inputs(shape).numpy()
    whole = [limit.kernels(x), limit.kernels(x, x[:2])]
    monkeypatch.setattr(module, "TILE", 1)
    cut = [limit.kernels(x), limit.kernels(x, x[:2])]
    for one, other in zip(whole, cut, strict=True):
        assert np.allclose(one.covariance, other.covariance, rtol=1e-12)
        assert np.allclose(one.tangent, other.tangent, rtol=1e-12)
    assert np.allclose(whole[0].tangent[:, :2], whole[1].tangent, rtol=1e-6)
    assert limit.kernels(x, dtype=np.float32).tangent.dtype == np.float32


def test_reading_a_network_leaves_it_alone_and_measures_what_it_does_not_know() -> None:
    module = nn.Sequential(nn.Linear(5, 300), nn.Tanh(), nn.Linear(300, 200))
    with torch.no_grad():
        module[2].weight.normal_(std=0.3)
    module.train()
    limit = kernels.infinite_width(module)
    assert module.training
    assert [step.kind for step in limit.steps] == ["input", "affine", "activation", "affine"]
    assert len(limit.notes) == 1
    assert limit.notes[0].startswith("The variance of 2.weight, 0.0")
    given = kernels.infinite_width(module, variances={"2.weight": 0.09})
    assert given.notes == ()
    law = given.steps[3].law
    assert law is not None
    assert (law.gain, law.variance, law.bias_variance) == (300, 0.09, 1 / 900)


class Correlated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(5, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        return self.last(hidden + torch.relu(hidden))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


def _chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), *layers, nn.Linear(8, 1))


def _moved(norm: nn.Module, name: str) -> nn.Module:
    with torch.no_grad():
        getattr(norm, name)[0] += 1
    return norm


class Attending(nn.Module):
    """Attention inside a module, and a course that hangs on the shape of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)})
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body["attention"](x, x, x)[0] if len(x) > 1 else x
        return self.last(hidden)


BATCH_ALONE = nn.BatchNorm1d(8, track_running_stats=False)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            _chain(BATCH_ALONE),
            r"`1` is a BatchNorm1d, with the statistics of the batch, which ties",
        ),
        (
            _chain(_moved(nn.BatchNorm1d(8), "running_mean")),
            r"`1` .* were estimated from data .*; res",
        ),
        (
            _chain(_moved(nn.BatchNorm1d(8), "running_var")),
            r"`1` .* were estimated from data .*; res",
        ),
        (_chain(_moved(nn.BatchNorm1d(8), "weight")), r"`1` is a BatchNorm1d, whose scales differ"),
        (_chain(_moved(nn.LayerNorm(8), "weight")), r"`1` is a LayerNorm, whose scales differ"),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)),
            r"`1` is a MaxPool2d, the mean of whose .*"
            r"; average pooling has; wanted .*whynet\.kernels\.ntk measures",
        ),
        (Attending(), r"`body.attention` is a MultiheadAttention, whose limit, of many heads"),
        (_chain(nn.GRU(8, 8)), r"`1` is a GRU, which reads its weights once a step"),
        (_chain(nn.Softmax(1)), r"`1` is a Softmax, which has no limit"),
        (_chain(nn.ReLU(), nn.LayerNorm(8)), r"`2` is a LayerNorm, applied to what is not Gauss"),
        (nn.Sequential(nn.ReLU(), nn.Linear(5, 1)), r"`0` is a ReLU, applied to what is not Gauss"),
        (_chain(nn.ReLU(), nn.Tanh()), r"`2` is a Tanh, applied to what is not Gaussian"),
        (Correlated(), r"calls add, of branches that do not end in a layer of their own"),
        (Twice(), r"with the parameter 'layer.weight' of another layer again"),
        (nn.Sequential(nn.Linear(5, 8), nn.ReLU()), r"an output that is no dense layer's"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)), r"`0` is a Conv2d, with groups"),
        (nn.TransformerEncoderLayer(8, 2), r"model: found"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_known_limit_is_named(module: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        kernels.infinite_width(module)


def test_refusals_of_inputs() -> None:
    limit = kernels.infinite_width(NETWORKS["relu"][0]())
    with pytest.raises(InputError, match=r"first: found an array of shape \(5,\)"):
        limit.kernels(np.zeros(5))
    with pytest.raises(InputError, match=r"second: found rows of shape \(4,\); wanted \(5,\)"):
        limit.kernels(np.zeros((2, 5)), np.zeros((2, 4)))
    with pytest.raises(InputError, match=r"first: found inputs that are not finite"):
        limit.kernels(np.full((2, 5), np.nan))
    with pytest.raises(InputError, match=r"variances: found 'x'"):
        kernels.infinite_width(nn.Linear(2, 1), variances={"x": 1.0})
    flat = kernels.infinite_width(NETWORKS["flattened"][0]())
    with pytest.raises(InputError, match=r"first: found inputs with 0 spatial sides"):
        flat.kernels(np.zeros((2, 5)))


def test_variances_of_few_entries() -> None:
    """A last layer of eight weights fits several ways to draw them; the first layers tell which."""
    right = 0
    for seed in range(200):
        with seeded(seed):
            module = mlp.build(64, [8] * 3, 1, parametrization="ntk", bias=False)
        limit = kernels.infinite_width(module)
        laws = [step.law for step in limit.steps if step.law is not None]
        gains = [law.gain * law.variance for law in laws]
        right += gains == pytest.approx([2, 2, 2, 1])
        assert gains[-1] == pytest.approx(1) or limit.notes
    assert right >= 190


def test_a_last_layer_of_another_way_is_told_by_its_entries() -> None:
    for seed in range(50):
        with seeded(seed):
            module = mlp.build(64, [200], 1, bias=False)
        limit = kernels.infinite_width(module)
        laws = [step.law for step in limit.steps if step.law is not None]
        assert [law.gain * law.variance for law in laws] == pytest.approx([2, 1])
        assert limit.notes == ()


def test_what_fits_several_ways_alone_says_so() -> None:
    with seeded(1):
        module = nn.Linear(4, 1, bias=False)
    (note,) = kernels.infinite_width(module).notes
    assert note.startswith("The variance of weight is taken for")
    assert note.endswith("as well: give it by `variances`.")
