from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from whynet.core.errors import InputError
from whynet.core.family import FAMILY_TAGS, Family
from whynet.core.outcome import NotApplicable
from whynet.core.tags import TAGS
from whynet.models import families
from whynet.models.families import convolutional, linear, mlp, transformer
from whynet.training.supervised import seeded

Build = Callable[[], nn.Module]

MEMBERS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "mlp": (lambda: mlp.build(6, (7, 5), 3), (6,)),
    "linear": (lambda: linear.build(6, 3), (6,)),
    "convolutional": (lambda: convolutional.build((1, 8, 8), (3, 4), 3), (1, 8, 8)),
    "transformer": (lambda: transformer.build((1, 8, 8), 4, 3, width=8), (1, 8, 8)),
}


def family(name: str) -> Family:
    found = importlib.import_module(f"whynet.models.families.{name}").FAMILY
    assert isinstance(found, Family)
    return found


def member(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    build, shape = MEMBERS[name]
    with seeded(seed):
        module = build().double().eval()
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return module, torch.randn(5, *shape, dtype=torch.float64)


def degree(module: nn.Module, inputs: Tensor) -> float | None:
    """Return L where f(c θ) = c^L f(θ) for two values of c, else None."""
    weights = dict(module.named_parameters())
    with torch.no_grad():
        start = module(inputs)
        found = []
        for factor in (2.0, 3.0):
            scaled = {name: factor * value for name, value in weights.items()}
            ratio = functional_call(module, scaled, (inputs,)) / start
            if not torch.allclose(ratio, ratio.mean()):
                return None
            found.append(math.log(ratio.mean().item()) / math.log(factor))
    return found[0] if math.isclose(found[0], found[1], rel_tol=1e-6) else None


def kink(module: nn.Module, inputs: Tensor) -> float:
    """Return how the largest jump of the derivative along a line shrinks on a grid 4 times finer.

    About 0.25 for a smooth function of the parameters, about 1 for one with kinks.
    """
    weights = {name: value.detach() for name, value in module.named_parameters()}
    with seeded(11):
        direction = {name: torch.randn_like(value) for name, value in weights.items()}

    def along(step: Tensor) -> Tensor:
        moved = {name: value + step * direction[name] for name, value in weights.items()}
        outputs = functional_call(module, moved, (inputs,))
        assert isinstance(outputs, Tensor)
        return outputs[:, 0].sum()

    def largest(count: int) -> float:
        steps = torch.linspace(-0.5, 0.5, count, dtype=torch.float64)
        slopes = vmap(grad(along), chunk_size=100)(steps)
        return float((slopes[1:] - slopes[:-1]).abs().max())

    coarse = largest(501)
    return largest(2001) / coarse if coarse > 1e-9 else 0.0


def test_every_family_has_a_member_in_these_tests() -> None:
    folder = Path(next(iter(families.__path__)))
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert names == set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_declared_tags_are_true_and_true_ones_are_declared(name: str) -> None:
    tags = family(name).tags
    module, inputs = member(name)
    with torch.no_grad():
        assert ("deterministic" in tags) == torch.equal(module(inputs), module(inputs))
    assert ("trainable" in tags) == any(p.requires_grad for p in module.parameters())
    assert ("homogeneous" in tags) == (degree(module, inputs) is not None)
    ratio = kink(module, inputs)
    assert ("smooth" in tags) == (ratio < 0.5)
    assert ratio < 0.35 or ratio > 0.8


@pytest.mark.parametrize("name", MEMBERS)
def test_piecewise_linearity_is_what_the_graph_finds(name: str) -> None:
    from whynet.models.piecewise_linear import piecewise_linear_graph

    module, inputs = member(name)
    graph = piecewise_linear_graph(module, inputs[0])
    assert ("piecewise-linear" in family(name).tags) == (not isinstance(graph, NotApplicable))


def test_the_ntk_parametrization_is_read_as_piecewise_linear_too() -> None:
    from whynet.models.piecewise_linear import piecewise_linear_graph

    with seeded(0):
        module = mlp.build(3, (4, 4), 2, parametrization="ntk")
    assert not isinstance(piecewise_linear_graph(module, torch.ones(3)), NotApplicable)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_family_names_what_is_defined_and_refuses_other_parametrizations(name: str) -> None:
    found = family(name)
    assert found.parametrizations[0] == "standard"
    assert set(found.tags) <= set(TAGS) | set(FAMILY_TAGS)
    arguments: dict[str, tuple[Any, ...]] = {
        "mlp": (6, (7,), 3),
        "linear": (6, 3),
        "convolutional": ((1, 8, 8), (3,), 3),
        "transformer": ((1, 8, 8), 4, 3),
    }
    for parametrization in found.parametrizations:
        found.build(*arguments[name], parametrization=parametrization)
    with pytest.raises(InputError, match="parametrization: found 'mup'; wanted standard"):
        found.build(*arguments[name], parametrization="mup")


def test_a_family_with_undefined_tags_is_refused() -> None:
    with pytest.raises(ValueError, match="undefined tags"):
        Family("x", nn.Linear, ("standard",), ("shiny",), False)
    with pytest.raises(ValueError, match="names no parametrization"):
        Family("x", nn.Linear, (), (), False)


@pytest.mark.parametrize("name", MEMBERS)
def test_building_is_deterministic_under_a_seed(name: str) -> None:
    first, second, other = (member(name, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MEMBERS)
def test_second_derivatives_agree_with_finite_differences(name: str) -> None:
    module, inputs = member(name)
    weights = {key: value.detach() for key, value in module.named_parameters()}
    with seeded(2):
        direction = {key: torch.randn_like(value) for key, value in weights.items()}

    def loss(at: dict[str, Tensor]) -> Tensor:
        outputs = functional_call(module, at, (inputs,))
        assert isinstance(outputs, Tensor)
        return outputs.square().mean()

    gradient = grad(loss)

    def slope(at: dict[str, Tensor]) -> Tensor:
        slopes = gradient(at)
        return torch.stack([(slopes[key] * direction[key]).sum() for key in at]).sum()

    product = grad(slope)(weights)
    step = 1e-6
    ends = [
        gradient({key: weights[key] + sign * step * direction[key] for key in weights})
        for sign in (1, -1)
    ]
    for key in weights:
        difference = (ends[0][key] - ends[1][key]) / (2 * step)
        torch.testing.assert_close(product[key], difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize(("activation", "layers"), [("relu", 1), ("relu", 3), ("linear", 2)])
def test_mlps_without_biases_are_homogeneous(
    parametrization: str, activation: str, layers: int
) -> None:
    with seeded(0):
        module = mlp.build(
            4, [9] * layers, 2, activation, bias=False, parametrization=parametrization
        ).double()
        inputs = torch.randn(6, 4, dtype=torch.float64)
    found = degree(module, inputs)
    assert found is not None
    assert math.isclose(found, layers + 1, rel_tol=1e-9)


def outputs_at_start(width: int, parametrization: str, inputs: Tensor, draws: int) -> Tensor:
    with seeded(width), torch.no_grad():
        return torch.stack(
            [
                mlp.build(4, (width, width), 1, parametrization=parametrization)(inputs)[:, 0]
                for _ in range(draws)
            ]
        )


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize("width", [16, 256])
def test_output_variance_at_the_start_is_known_and_independent_of_width(
    width: int, parametrization: str
) -> None:
    inputs = torch.tensor([[1.0, -2.0, 0.5, 1.5], [3.0, 0.0, 0.0, 0.0]])
    squares = outputs_at_start(width, parametrization, inputs, 1500).double().square()
    mean, error = squares.mean(dim=0), squares.std(dim=0) / math.sqrt(1500)
    wanted = inputs.double().square().sum(dim=1) / 4
    assert ((mean - wanted).abs() < 4 * error).all()
    assert (error < 0.1 * wanted).all()


def kernel_at_start(width: int, parametrization: str) -> float:
    """Return the mean tangent kernel of one input with itself over 20 draws."""
    inputs, total = torch.ones(1, 4), 0.0
    with seeded(0):
        for _ in range(20):
            module = mlp.build(4, (width, width), 1, parametrization=parametrization)
            gradients = torch.autograd.grad(module(inputs).sum(), list(module.parameters()))
            total += sum(float(g.square().sum()) for g in gradients) / 20
    return total


def test_the_tangent_kernel_has_a_limit_in_ntk_and_grows_in_standard() -> None:
    widths = (32, 64, 128, 256)
    ntk = [kernel_at_start(width, "ntk") for width in widths]
    standard = [kernel_at_start(width, "standard") for width in widths]
    assert max(ntk) / min(ntk) < 1.3
    assert all(later / earlier > 1.6 for earlier, later in pairwise(standard))
    # The closed form for depth 3 and |x|^2 = 4: each weight layer gives |x|^2 / 4 = 1.
    assert abs(ntk[-1] - 3.0) < 0.5


def test_batch_normalization_is_optional_and_stays_piecewise_linear() -> None:
    with seeded(0):
        module = convolutional.build((1, 8, 8), (3, 4), 2, batch_norm=True)
        inputs = torch.randn(6, 1, 8, 8)
    norms = [child for child in module if isinstance(child, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [3, 4]
    assert module(inputs).shape == (6, 2)


def test_attention_is_that_of_pytorch() -> None:
    with seeded(0):
        ours = transformer.SelfAttention(8, 2).double()
        tokens = torch.randn(3, 5, 8, dtype=torch.float64)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    theirs.in_proj_weight.data = ours.read.weight.data
    theirs.in_proj_bias.data = ours.read.bias.data
    theirs.out_proj.load_state_dict(ours.write.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_patches_are_cut_where_they_lie() -> None:
    with seeded(0):
        module = transformer.build((2, 4, 6), 2, 3, width=8, heads=2)
    seen: list[Tensor] = []
    module.embed.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    images = torch.arange(48.0).reshape(1, 2, 4, 6)
    module(images)
    assert seen[0].shape == (1, 6, 8)
    assert torch.equal(seen[0][0, 4], images[0, :, 2:4, 2:4].flatten())


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: mlp.build(3, (4,), 1, "swish"), "activation"),
        (lambda: mlp.build(3, (0,), 1), "widths"),
        (lambda: linear.build(0, 1), "inputs"),
        (lambda: convolutional.build((1, 8, 8), (), 1), "channels"),
        (lambda: convolutional.build((1, 3, 8), (2, 2), 1), "channels"),
        (lambda: transformer.build((1, 8, 8), 3, 1), "patch"),
        (lambda: transformer.build((1, 8, 8), 2, 1, width=6, heads=4), "heads"),
        (lambda: transformer.build((1, 8, 8), 2, 1, depth=0), "image"),
    ],
)
def test_impossible_sizes_are_refused(build: Build, argument: str) -> None:
    with pytest.raises(InputError) as error:
        build()
    assert error.value.argument == argument
