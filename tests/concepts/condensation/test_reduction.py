"""Networks made smaller up to a tolerance, with what it costs."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.concepts.condensation.planting import network, widened
from torch import Tensor, nn

from whynet import InputError, Subject, condense, load_resized
from whynet.concepts.condensation.certificate import certify
from whynet.concepts.condensation.reduction import Condensed
from whynet.training.builtin import load_builtin


def subject_of(module: nn.Module, inputs: Tensor, dtype: torch.dtype) -> Subject:
    with torch.no_grad():
        outputs = module(inputs)
    return Subject(module.to(dtype), train=(inputs.to(dtype), outputs.to(dtype)), loss="mse")


@pytest.fixture(scope="module")
def breast() -> Subject:
    built = load_builtin("breast-cancer-mlp")
    return Subject(built.module, train=built.train, test=built.test, loss=built.loss)


@pytest.fixture(scope="module")
def smaller(breast: Subject) -> Condensed:
    return condense(breast, tolerance=0.02)


def test_the_error_is_the_one_measured_and_within_the_tolerance(
    breast: Subject, smaller: Condensed
) -> None:
    before = breast.outputs("train")[0].double()
    after = smaller.smaller().outputs("train")[0].double()
    largest = float((after - before).abs().max() / before.abs().max())
    assert smaller.reduced
    # That of turned units is the largest close beside the data too.
    assert smaller.chosen.turned
    assert largest * (1 - 1e-3) <= smaller.chosen.largest <= min(1.1 * largest, 0.02)
    layer = smaller.layers[0]
    assert layer.before == layer.exactly == 32
    assert layer.after == smaller.module[0].out_features == len(smaller.kept["0"]) < 16
    sizes = [point.parameters for point in smaller.curve]
    assert sizes == sorted(sizes, reverse=True)
    assert smaller.chosen.parameters == sum(p.numel() for p in smaller.module.parameters())


def test_the_smaller_network_is_an_ordinary_one(breast: Subject, smaller: Condensed) -> None:
    inputs = breast.examples("train").take(range(5), dtype=torch.float32)[0]
    assert {p.dtype for p in smaller.module.parameters()} == {torch.float32}
    again = load_resized(breast.module, smaller.module.state_dict())
    exported = torch.export.export(smaller.module, (inputs,)).module()
    with torch.no_grad():
        assert torch.equal(again(inputs), smaller.module(inputs))
        assert torch.allclose(exported(inputs), smaller.module(inputs))
    loss = smaller.module.train()(inputs).sum()
    loss.backward()
    assert smaller.module[0].weight.grad is not None
    smaller.module.eval()


def test_the_user_s_network_stays_as_it_is(breast: Subject) -> None:
    before = copy.deepcopy(breast.module.state_dict())
    condense(breast, tolerance=1e-3)
    assert all(torch.equal(before[k], v) for k, v in breast.module.state_dict().items())


def test_what_is_planted_goes_without_error_in_float32() -> None:
    narrow, inputs = network("cnn", 4)
    subject = subject_of(widened(narrow, inputs, 4), inputs, torch.float32)
    found = condense(subject, exact_only=True)
    assert {move.name for move in found.moves} == {"proportional"}
    assert [layer.after for layer in found.layers] == [3, 4, 5, 3]
    assert found.layers[-1].reason == "they are the network's own output"
    after = found.smaller().outputs("train")[0]
    before = subject.outputs("train")[0]
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    small = inputs.float()
    exported = torch.export.export(found.module, (small,)).module()
    assert torch.allclose(exported(small), found.module(small))


def test_a_network_that_does_not_reduce_comes_back_with_the_reason() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    module, _ = network("mlp", 1)
    subject = subject_of(module, inputs, torch.float64)
    found = condense(subject, tolerance=1e-6)
    assert not found.reduced
    assert found.reason.startswith("Within 1e-06 no unit can go: the best smaller network tried")
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in found.module.state_dict().items())
    linear = subject_of(nn.Linear(4, 2).double(), inputs, torch.float64)
    assert "`` stay" not in condense(linear).reason
    assert "since they are the network's own output" in condense(linear).reason


def test_a_number_of_units_is_met_whatever_the_error(breast: Subject) -> None:
    found = condense(breast, tolerance=1e-3, units=5)
    assert found.layers[0].after <= 5
    assert found.chosen.largest > 1e-3


@pytest.mark.parametrize(("name", "value"), [("tolerance", 1.5), ("tolerance", -1.0), ("units", 0)])
def test_bad_settings_are_refused(breast: Subject, name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        condense(breast, **{name: value})  # type: ignore[arg-type]


def test_a_condensed_network_reduces_and_a_spread_one_does_not() -> None:
    """Neurons in three clusters of nearly one direction, against as many random directions."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    cluster = torch.arange(300) % 3
    widths = []
    for spread in (3e-4, 1.0):
        module = nn.Sequential(nn.Linear(3, 300), nn.ReLU(), nn.Linear(300, 1)).double()
        rows = directions[cluster] + spread * torch.randn(300, 4, generator=generator).double()
        with torch.no_grad():
            module[0].weight.copy_(rows[:, :3])
            module[0].bias.copy_(rows[:, 3])
            sign = torch.where(cluster == 1, -1.0, 1.0)
            module[2].weight.copy_(sign * torch.rand(1, 300, generator=generator))
        widths.append(condense(subject_of(module, inputs, torch.float64)).layers[0].after)
    assert widths[0] <= 4
    assert widths[1] > 20


@pytest.mark.parametrize("rows", [30, 1500])
def test_too_few_rows_to_tell_what_a_network_says_elsewhere_are_named(rows: int) -> None:
    """Thirty rows are repeated by as many of 80 random units, whatever these say elsewhere."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 80), nn.Tanh(), nn.Linear(80, 1)).double()
    inputs = 2 * torch.randn(rows, 8, dtype=torch.float64)
    found = condense(subject_of(module, inputs, torch.float64), tolerance=1e-2)
    if rows == 30:
        assert found.layers[0].after <= 30
        assert found.chosen.largest <= 1e-2
        assert "these rows do not tell" in found.caution
        new = 2 * torch.randn(1000, 8, dtype=torch.float64)
        with torch.no_grad():
            wanted = module(new)
            assert (found.module(new) - wanted).abs().max() > 0.1 * wanted.abs().max()
    else:
        assert found.layers[0].after > 30
        assert found.caution == ""


def test_larger_widths_than_the_network_s_are_refused() -> None:
    state = nn.Linear(4, 9).state_dict()
    with pytest.raises(InputError, match="at most"):
        load_resized(nn.Linear(4, 3), state)
    with pytest.raises(InputError, match="missing"):
        load_resized(nn.Sequential(nn.Linear(4, 3)), state)


class Written(nn.Module):
    """A network whose forward has a number of channels written in, and perhaps a branch."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.branch = branch

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first(inputs)).view(-1, 8)
        if self.branch and len(hidden.shape) != 2 + 0 * int(hidden.shape[0]):
            return hidden
        return self.third(torch.relu(self.second(hidden)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("branch", [False, True])
def test_channels_whose_number_the_code_fixes_go_in_a_trace_or_stay(branch: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Written(branch).double()
    with torch.no_grad():
        for layer in (module.first, module.second):
            half = len(layer.weight) // 2
            layer.weight[half:], layer.bias[half:] = layer.weight[:half], layer.bias[:half]
    found = condense(subject_of(module, inputs, torch.float64), exact_only=True)
    assert [layer.after for layer in found.layers] == [8 if branch else 4, 3, 2]
    assert found.traced is not branch
    reason = "the network's own code fixes their number, and its trace fails (RuntimeError)"
    assert found.layers[0].reason == (reason if branch else None)
    with torch.no_grad():
        assert torch.allclose(found.module(inputs), module(inputs), rtol=1e-12, atol=1e-14)
    state = found.module.state_dict()
    assert state.keys() == module.state_dict().keys()
    again = load_resized(module, state, inputs)
    assert torch.allclose(again(inputs), module(inputs), rtol=1e-12, atol=1e-14)
    exact = certify(subject_of(module, inputs, torch.float64), found.module, found.kept)
    assert exact["exact"]["holds"] and exact["size"]["after"]["parameters"] < 104
