"""Distinct neurons: planted copies, opposites and dead units, random layers, and coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tests.concepts.condensation.planting import Fused
from torch import Tensor, nn

from whynet.concepts.condensation.instruments import neuron_similarity as instrument
from whynet.concepts.condensation.layer_directions import layer_directions
from whynet.concepts.condensation.theory import random_directions
from whynet.concepts.measuring import measure
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject
from whynet.numerics import directions

ROWS, INPUTS = 300, 10


def network(weight: Tensor, bias: Tensor | None = None, activation: Any = nn.ReLU) -> nn.Sequential:
    """Return a network with one hidden layer of given weights."""
    hidden = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        hidden.weight.copy_(weight)
        hidden.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return nn.Sequential(hidden, activation(), nn.Linear(len(weight), 2))


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def subject(module: nn.Module, inputs: Tensor | None = None, **options: Any) -> Subject:
    rows = gaussian(ROWS, INPUTS, seed=99) if inputs is None else inputs
    labels = torch.arange(len(rows)) % 2
    options.setdefault("test", (rows[:50], labels[:50]))
    return Subject(module, train=(rows, labels), **options)


def measured(held: Subject, rounds: int = 1, seed: int = 0) -> Measurement:
    found = measure("neuron-similarity", held, rounds=rounds, seed=seed)
    assert isinstance(found, Measurement)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaled_copies_count_once(dtype: torch.dtype) -> None:
    base, bias = gaussian(7, INPUTS), gaussian(7, seed=3)
    scale = torch.tensor([0.3, 1.0, 20.0]).repeat(7)[:, None]
    weight = base.repeat_interleave(3, 0) * scale
    module = network(weight, bias.repeat_interleave(3) * scale[:, 0])
    found = measured(subject(module, dtype=dtype))
    assert found.values("width").tolist() == found.values("compared").tolist() == [21]
    assert found.values("distinct").tolist() == [[7, 7]]
    assert found.values("distinct_activities").tolist() == [[7, 7]]
    assert found.values("distinct_total").tolist() == [7, 7]
    assert (found.bounds("null_distinct")[0] > 15).all()
    matrix = found.values("similarity")
    np.testing.assert_allclose(matrix[:3, :3], 1, atol=1e-6)
    assert found.estimate("effective_rank", layer="0").high < 7.001


def test_pairs_of_opposite_sign_are_counted() -> None:
    base = gaussian(6, INPUTS)
    found = measured(subject(network(torch.cat([base, -2 * base, base]))))
    assert found.values("distinct").tolist() == [[12, 12]]
    assert found.values("opposite_pairs").tolist() == [[6, 6]]


def test_dead_and_always_linear_units_are_found_and_the_dead_held_at_zero() -> None:
    weight, bias = gaussian(9, INPUTS), torch.zeros(9)
    bias[:2], bias[2:5] = -100.0, 100.0
    found = measured(subject(network(weight, bias)))
    assert found.values("dead").tolist() == [2]
    assert found.values("linear").tolist() == [3]
    assert found.values("compared").tolist() == [7]
    assert found.estimate("output_change_without_dead").value == 0
    # One row of the test data reaches the dead units: removing them is no longer free.
    rows = torch.cat([gaussian(20, INPUTS), 200 * weight[:1] / weight[0].norm()])
    wider = subject(network(weight, bias), test=(rows, torch.zeros(21, dtype=torch.long)))
    assert measured(wider).estimate("output_change_without_dead").value > 1e-3


def test_leaky_units_that_are_always_negative_are_linear() -> None:
    bias = torch.tensor([-100.0, 100.0, 0.0])
    found = measured(subject(network(gaussian(3, INPUTS), bias, nn.LeakyReLU)))
    assert found.values("linear").tolist() == [2]
    assert found.values("dead").tolist() == [0]


def test_a_layer_without_any_active_unit_is_measured() -> None:
    module = nn.Sequential(network(gaussian(4, INPUTS), torch.full((4,), -100.0)), nn.ReLU())
    held = subject(nn.Sequential(module, nn.Linear(2, 2)))
    found = measured(held)
    assert found.values("dead")[0] == 4
    assert found.values("distinct")[0].tolist() == [0, 0]
    assert np.isnan(found.values("null_distinct")[0]).all()


def test_permuting_units_changes_no_number() -> None:
    base = gaussian(8, INPUTS)
    weight = torch.cat([base, 1.5 * base[:3] + 0.01 * gaussian(3, INPUTS, seed=4)])
    bias = gaussian(11, seed=6)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    module = network(weight, bias)
    permuted = network(weight[order], bias[order])
    with torch.no_grad():
        permuted[2].weight.copy_(module[2].weight[:, order])
        permuted[2].bias.copy_(module[2].bias)
    first, second = measured(subject(module)), measured(subject(permuted))
    for name in first.names:
        np.testing.assert_allclose(first.values(name), second.values(name), rtol=1e-5, atol=1e-6)


def test_batch_size_changes_no_number() -> None:
    module = network(gaussian(12, INPUTS), gaussian(12, seed=2))
    first = measured(subject(module))
    second = measured(subject(module, batch_size=17))
    for name in first.names:
        np.testing.assert_allclose(first.values(name), second.values(name), rtol=1e-6, atol=1e-7)


def test_batch_norm_convolution_and_transformer() -> None:
    images = gaussian(80, 2, 6, 6)
    convolution = nn.Conv2d(2, 6, 3, bias=False)
    with torch.no_grad():
        convolution.weight[3:] = 2 * convolution.weight[:3]
    module = nn.Sequential(convolution, nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
    module(images)  # gives the running statistics values
    module = nn.Sequential(module, nn.Linear(96, 2))
    for _ in range(60):
        module(images)
    found = measured(subject(module, images))
    assert found.values("distinct").tolist() == [[3, 3]]
    assert np.isfinite(found.values("null_distinct")).all()

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.out = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.layer(x).mean(1))  # type: ignore[no-any-return]

    found = measured(subject(Encoder(), gaussian(60, 5, 8)))
    assert found.dataset["layer"].values.tolist() == ["layer.linear1"]
    assert found.values("width").tolist() == [16]


def test_grouped_convolutions_have_no_null_and_say_so() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    found = measured(subject(module, gaussian(60, 2, 6, 6)))
    assert np.isnan(found.values("null_distinct")).all()
    assert found.values("distinct_total").tolist() == found.values("distinct")[0].tolist()
    assert any("Grouped convolutions have no null" in note for note in found.notes)


def test_networks_without_neurons_are_refused() -> None:
    answer = measure("neuron-similarity", subject(nn.Linear(INPUTS, 2)))
    assert isinstance(answer, NotApplicable)
    assert answer.reason == (
        "This does not apply: no hidden layer was found whose output reaches an activation "
        "function directly or through batch normalization."
    )


def test_a_subject_is_left_as_found_and_seeds_decide() -> None:
    held = subject(network(gaussian(12, INPUTS)))
    before = fingerprint(held.module)
    first, again, other = (measured(held, seed=seed) for seed in (0, 0, 1))
    assert fingerprint(held.module) == before
    assert first.dataset.identical(again.dataset)
    assert first.values("null_effective_rank") != other.values("null_effective_rank")


def test_more_rounds_extend_the_draws_of_fewer() -> None:
    held = subject(network(gaussian(12, INPUTS)))
    state = instrument.start(held, 0)
    assert not isinstance(state, NotApplicable)
    one = instrument.advance(state)
    two = instrument.advance(one)
    assert one.null is not None and two.null is not None
    np.testing.assert_array_equal(two.null["0"][:40], one.null["0"])
    assert two.null["0"].shape == (80, 3)


def test_random_layers_lie_inside_their_band() -> None:
    """A new random layer lies inside the band of 40 with probability at least 39/41."""
    rows = gaussian(60, 3, seed=8) * torch.tensor([1.0, 0.5, 3.0])
    inside = np.zeros(3)
    seeds = 100
    for seed in range(seeds):
        layer = gaussian(16, 4, seed=1000 + seed)
        found = measured(subject(network(layer[:, :3], layer[:, 3], nn.Tanh), rows), seed=seed)
        weight = layer.double().numpy()
        rank = directions.effective_rank(directions.normalized(weight @ _second(rows) @ weight.T))
        low, high = (
            np.array([*found.bounds("null_distinct")[end][0],
                      found.bounds("null_effective_rank")[end][0]])
            for end in (0, 1)
        )  # fmt: skip
        ours = np.array([*found.values("distinct")[0], rank])
        inside += (low <= ours) & (ours <= high)
    assert (inside >= 0.88 * seeds).all(), inside / seeds  # less three standard errors


def _second(rows: Tensor) -> np.ndarray:
    extended = np.concatenate([rows.double().numpy(), np.ones((len(rows), 1))], axis=1)
    return np.asarray(extended.T @ extended / len(rows))


def test_effective_rank_covers() -> None:
    """The jackknife interval holds the population's rank in 93 to 99 % of 1000 samples."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((12, 6))
    spread = np.array([10.0, 1, 1, 1, 1, 1])  # one eigenvalue 100 times the bulk
    truth = directions.effective_rank(directions.normalized(weight @ np.diag(spread**2) @ weight.T))
    hits = 0
    for _ in range(1000):
        rows = generator.standard_normal((300, 6)) * spread
        _, low, high = directions.jackknifed_rank(rows @ weight.T, np.arange(300) % 30)
        hits += low <= truth <= high
    assert 930 <= hits <= 990, hits


def test_clusters_keep_all_pairs_within_the_tolerance() -> None:
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((60, 2))
    cosines = directions.normalized(vectors @ vectors.T)
    for tolerance in (0.9, 0.99):
        (labels,) = directions.clusters(cosines, [tolerance])
        for label in np.unique(labels):
            assert (cosines[np.ix_(labels == label, labels == label)] >= tolerance).all()


def test_theory_of_random_directions() -> None:
    np.testing.assert_allclose(
        random_directions.close_share([0.0, 0.5, 0.9], 3), [0.5, 0.25, 0.05]
    )  # Archimedes: uniform in three dimensions
    np.testing.assert_allclose(random_directions.close_share([0.5], 2), [np.arccos(0.5) / np.pi])
    generator = np.random.default_rng(2)
    shares, ranks = [], []
    for _ in range(300):
        vectors = generator.standard_normal((5, 30))
        cosines = directions.normalized(vectors.T @ vectors)
        shares.append(np.mean(cosines[np.triu_indices(30, 1)] > 0.7))
        ranks.append((cosines**2).sum())
    predicted = random_directions.predict(30, 5, [0.7])
    gap = np.mean(shares) - predicted.values("close_pairs")[0]
    assert abs(gap) < 4 * stats.sem(shares)
    assert 900 / np.mean(ranks) == pytest.approx(
        predicted.estimate("effective_rank").value, rel=0.01
    )


def test_theory_and_instrument_agree_on_isotropic_inputs() -> None:
    rows = torch.linalg.qr(gaussian(400, 6, seed=3))[0] * 20  # second moment: the identity
    hidden = nn.Linear(6, 400, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(gaussian(400, 6, seed=4))
    found = measured(subject(nn.Sequential(hidden, nn.Tanh(), nn.Linear(400, 2)), rows))
    predicted = random_directions.predict(400, 6, instrument.TOLERANCES)
    rank = predicted.estimate("effective_rank").value
    assert found.estimate("input_dimension", layer="0").value == pytest.approx(6)
    assert found.estimate("effective_rank", layer="0").value == pytest.approx(rank, rel=0.02)
    share = found.estimate("close_pairs", layer="0", tolerance=0.95).value  # 42 pairs expected
    assert share == pytest.approx(predicted.values("close_pairs")[0], rel=0.3)


def test_theory_refuses_what_makes_no_sense() -> None:
    with pytest.raises(InputError, match="dimension: found 0; wanted at least 1"):
        random_directions.close_share([0.5], 0)
    with pytest.raises(InputError, match="tolerance"):
        random_directions.close_share([1.0], 3)
    with pytest.raises(InputError, match="width"):
        random_directions.predict(0, 3, [0.5])


def test_products_of_gated_units_are_compared() -> None:
    """Of eight units two are copies, one has the opposite value, one the value zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Fused(8, "chunk")
    with torch.no_grad():
        for copy, of, sign in ((1, 0, 1.0), (2, 0, 3.0), (3, 0, -1.0), (4, 4, 0.0)):
            for tensor in (module.both.weight, module.both.bias):
                tensor[copy], tensor[8 + copy] = tensor[of], sign * tensor[8 + of]
    held = subject(module, gaussian(400, 4))
    found = measured(held)
    counts = {name: found.values(name).tolist() for name in ("width", "dead", "linear")}
    assert counts == {"width": [8], "dead": [1], "linear": [0]}
    # Two copies count once, and so does the opposite one; three others are alone.
    assert found.values("distinct").tolist() == [[5, 5]]
    assert found.values("opposite_pairs").tolist() == [[1, 1]]
    # Of seven random units on four inputs hardly two have a cosine of 0.95.
    assert found.values("null_distinct").min() > 6.5
    assert any("gated" in note for note in found.notes)
    (layer,) = layer_directions(held)
    assert (layer.path, layer.compared) == ("both", 7)
    assert layer.directions <= 5
    assert layer.random is not None
    assert layer.random[0] > 5
    assert layer.condensed


class Bilinear(nn.Module):
    """Gated units whose gates read what the values read, or something else."""

    def __init__(
        self, gates: Tensor, values: Tensor, activate: Any, *, apart: bool = False
    ) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(g.shape[1] - 1, len(g)) for g in (gates, values))
        self.down = nn.Linear(len(gates), 2)
        self.activate, self.apart = activate, apart
        with torch.no_grad():
            for layer, weight in ((self.gate, gates), (self.up, values)):
                layer.weight.copy_(weight[:, :-1])
                layer.bias.copy_(weight[:, -1])

    def forward(self, x: Tensor) -> Tensor:
        gates = self.activate(self.gate(2 * x if self.apart else x))
        return self.down(gates * self.up(x))


def test_random_gated_layers_lie_inside_their_band() -> None:
    activate = nn.functional.silu
    rows = gaussian(60, 3, seed=8) * torch.tensor([1.0, 0.5, 3.0])
    extended = torch.cat([rows, torch.ones(60, 1)], 1).double()
    inside, seeds = np.zeros(3), 60
    for seed in range(seeds):
        gates, values = 0.7 * gaussian(16, 4, seed=2000 + seed), gaussian(16, 4, seed=3000 + seed)
        found = measured(subject(Bilinear(gates, values, activate), rows), seed=seed)
        products = activate(extended @ gates.double().T) * (extended @ values.double().T)
        rank = directions.effective_rank(directions.normalized((products.T @ products).numpy()))
        counts = [found.estimate("null_distinct", layer="up", tolerance=t) for t in (0.95, 0.99)]
        nulls = [*counts, found.estimate("null_effective_rank", layer="up")]
        low, high = (np.array([getattr(null, end) for null in nulls]) for end in ("low", "high"))
        ours = [found.estimate("distinct", layer="up", tolerance=t).value for t in (0.95, 0.99)]
        ours = np.array([*ours, rank])
        inside += (low <= ours) & (ours <= high)
    assert (inside >= 0.87 * seeds).all(), inside / seeds  # 39/41, less three standard errors


def test_gates_that_read_something_else_have_no_random_layers() -> None:
    weights = gaussian(16, 4), gaussian(16, 4, seed=1)
    module = Bilinear(*weights, torch.tanh, apart=True)
    found = measured(subject(module, gaussian(50, 3)))
    assert np.isnan(found.estimate("null_effective_rank", layer="up").value)
    assert not np.isnan(found.estimate("null_effective_rank", layer="gate").value)
