from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.landscape.instruments import mode_connectivity
from whynet.concepts.landscape.lines import POSITIONS
from whynet.concepts.landscape.questions import connectivity
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.alignment import align
from whynet.models.batch_norm import recalibrate
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject
from whynet.testing.closed_forms import closed_forms
from whynet.testing.conformance import (
    check_batch_split,
    check_old_state,
    check_precisions,
    check_same_seed,
    check_untouched,
)
from whynet.testing.landscape_forms import copy as disturbed_copy
from whynet.training.supervised import seeded

Train = Callable[[nn.Module, Tensor, Tensor, int], None]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(width: int = 16, norm: bool = False) -> nn.Sequential:
    between = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(nn.Linear(6, width), *between, nn.ReLU(), nn.Linear(width, 3))


def gives(states: Callable[[int], dict[str, Tensor]]) -> Train:
    """Return a training function that hands out given weights."""

    def train(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
        model.load_state_dict(states(seed))

    return train


def descends(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def data(rows: int = 900) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    x = drawn(2 * rows, 6, seed=1)
    y = (x @ drawn(6, 3, seed=2)).argmax(1)
    return (x[:rows], y[:rows]), (x[rows:], y[rows:])


Pair = tuple[Tensor, Tensor]


def held(
    module: nn.Module,
    train: Train,
    build: Callable[[], nn.Module],
    splits: tuple[Pair, Pair] | None = None,
    dtype: torch.dtype | None = None,
    initial: nn.Module | None = None,
) -> Subject:
    first, second = splits or data()
    return Subject(
        module, train=first, test=second, dtype=dtype, initial=initial,
        trainer=Trainer(build, train),
    )  # fmt: skip


def turned(module: nn.Sequential, seed: int) -> dict[str, Tensor]:
    """Return the weights of the same function with its hidden units in another order."""
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    return {
        "0.weight": state["0.weight"][order], "0.bias": state["0.bias"][order],
        "2.weight": state["2.weight"][:, order], "2.bias": state["2.bias"],
    }  # fmt: skip


def learned() -> nn.Sequential:
    with seeded(5), torch.enable_grad():
        module = network()
        descends(module, *data()[0], seed=0)
    return module


def measured(subject: Subject, rounds: int = 1) -> Measurement:
    found = measure("mode-connectivity", subject, rounds=rounds)
    assert isinstance(found, Measurement)
    return found


def asked(subject: Subject, found: Measurement | None = None) -> Panel:
    found = found or measured(subject)
    panel = connectivity.ask(Results(subject.facts, {"mode-connectivity": found}))
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()
    return panel


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_permuted_copy_has_a_barrier_that_alignment_removes_exactly(dtype: torch.dtype) -> None:
    module = learned()
    subject = held(module, gives(lambda seed: turned(module, seed)), network, dtype=dtype)
    found = measured(subject)
    before, after = (
        found.values("train_barrier", line=line) for line in ("as they are", "aligned")
    )
    assert (before > 0.05).all()
    assert (after == 0).all()
    assert (found.values("barrier", line="aligned") == 0).all()
    assert (np.ptp(found.values("train_loss", line="aligned"), axis=1) == 0).all()
    assert found.values("correlation") == pytest.approx(1.0)


def test_a_barrier_that_can_be_written_down() -> None:
    """|x| from two units; with the units exchanged the line goes through the zero function."""
    signs = torch.tensor([[1.0], [-1.0]])

    def filled(order: Tensor) -> nn.Sequential:
        module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        module.load_state_dict({"0.weight": order, "2.weight": torch.ones(1, 2)})
        return module

    x = drawn(64, 1, seed=0)
    subject = Subject(
        filled(signs), train=(x, x.abs()), test=(x, x.abs()), loss="mse", dtype=torch.float64,
        trainer=Trainer(lambda: filled(signs), gives(lambda seed: filled(-signs).state_dict())),
    )  # fmt: skip
    found = measured(subject)
    square = float(x.double().square().mean())
    want = np.array([(1 - abs(1 - 2 * t)) ** 2 * square for t in POSITIONS])
    for name in ("train_loss", "loss"):
        assert found.values(name, line="as they are", seed=1) == pytest.approx(want, abs=1e-12)
        assert found.values(name, line="aligned", seed=1) == pytest.approx(0, abs=1e-12)
    assert found.values("highest", line="as they are", seed=1) == 0.5
    assert found.values("barrier", line="as they are", seed=1) == pytest.approx(square)
    assert "error" not in found.names
    panel = asked(subject, found)
    assert panel.findings == ()
    assert "accuracy" not in panel.lead


def test_a_linear_model_has_no_barrier() -> None:
    def build() -> nn.Module:
        return nn.Linear(6, 3)

    def states(seed: int) -> dict[str, Tensor]:
        return {"weight": 3 * drawn(3, 6, seed=seed), "bias": drawn(3, seed=seed)}

    subject = held(build(), gives(states), build, dtype=torch.float64)
    found = measured(subject)
    assert found.dataset["line"].values.tolist() == ["as they are"]
    assert (found.values("train_barrier") <= 0).all()
    losses = found.values("train_loss")[:, 0]
    assert (np.diff(losses, 2, axis=1) > -1e-12).all()
    assert any("chains of linear layers" in note for note in found.notes)
    assert connectivity.convex(found)
    panel = asked(subject, found)
    assert panel.findings == ()
    assert "bends upward everywhere" in panel.lead


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_on_a_straight_line_is_no_barrier(dtype: torch.dtype) -> None:
    """The absolute error of a linear model is linear in weights that never change its sign."""

    def line(slope: float) -> nn.Linear:
        module = nn.Linear(1, 1)
        nn.init.constant_(module.weight, slope)
        nn.init.zeros_(module.bias)
        return module

    def build() -> nn.Linear:
        return line(1.0)

    x = 1 + drawn(64, 1, seed=0).abs()
    subject = Subject(
        line(7.3e29), train=(x, 0 * x), test=(x, 0 * x), dtype=dtype, trainer=Trainer(
            build, gives(lambda seed: line(1.7 + seed).state_dict())
        ), loss=lambda outputs, targets: (outputs - targets).abs().mean(),
    )  # fmt: skip
    found = measured(subject)
    assert (np.ptp(found.values("train_loss"), axis=-1) > 1e29).all()
    for name in ("train_barrier", "barrier", "mean_barrier"):
        assert (found.values(name) == 0).all(), name
    assert (found.values("highest") == 0.5).all()


def test_matched_units_are_the_planted_ones() -> None:
    subject = closed_forms()["turned-copies"].subject(torch.float64, 0)
    for seed in (1, 2):
        other = subject.retrained(Variation(seed=seed))
        aligned = align(subject, other, "train")
        assert not isinstance(aligned, NotApplicable)
        (first, last), _ = disturbed_copy(seed)
        weights = [p.detach().double().numpy() for p in aligned.module.parameters()]
        assert np.array_equal(weights[0], first)
        assert np.array_equal(weights[1], last)


def test_batch_normalization_is_reset_at_every_point() -> None:
    def build() -> nn.Module:
        return network(norm=True)

    with seeded(5):
        module = build()
    subject = held(module, descends, build, dtype=torch.float64)
    found = measured(subject)
    other = subject.retrained(Variation(seed=1)).module
    middle = copy.deepcopy(subject.module)
    with torch.no_grad():
        for mine, theirs in zip(middle.parameters(), other.parameters(), strict=True):
            mine.copy_((mine + theirs) / 2)
        recalibrate(middle, lambda: subject.batches("train"))
        x, y = next(subject.batches("train", 10_000))
        want = float(functional.cross_entropy(middle(x), y))
        stale = copy.deepcopy(middle)
        stale[1].load_state_dict(
            subject.module[1].state_dict() | dict(middle[1].named_parameters())
        )
        wrong = float(functional.cross_entropy(stale(x), y))
    got = found.values("train_loss", seed=1, line="as they are")[5]
    assert got == pytest.approx(want, rel=1e-9)
    assert abs(wrong - want) > 1e-3
    assert any("were reset at every point" in note for note in found.notes)


def test_weights_that_can_be_averaged_after_alignment() -> None:
    module = learned()
    (finding,) = asked(held(module, gives(lambda seed: turned(module, seed)), network)).findings
    assert finding.headline.endswith("once hidden units are matched.")
    assert finding.estimate.value == 0
    assert finding.references[0].high < finding.estimate.low
    assert [reference.name for reference in finding.references] == ["not aligned"]


def test_weights_that_are_equal_can_be_averaged_as_they_are() -> None:
    module = learned()
    near = {n: v + 0.02 * drawn(*v.shape, seed=9) for n, v in module.state_dict().items()}
    subject = held(module, gives(lambda seed: near), network)
    found = measured(subject)
    if not connectivity.convex(found):
        (finding,) = asked(subject, found).findings
        assert finding.headline == "Its weights can be averaged with another seed's."


def test_an_untrained_network_gets_no_praise() -> None:
    """Not as the network examined, and not as one of a training function that does nothing."""
    with seeded(6):
        fresh = network()
    assert asked(held(fresh, descends, network)).findings == ()
    assert asked(held(fresh, lambda *a, **k: None, network)).findings == ()


def test_a_network_of_random_labels_gets_no_praise() -> None:
    (x, y), (u, v) = data(200)
    random = torch.randint(3, y.shape, generator=torch.Generator().manual_seed(0))
    with seeded(5), torch.enable_grad():
        module = network()
        descends(module, x, random, seed=0)
    assert asked(held(module, descends, network, ((x, random), (u, v)))).findings == ()


@pytest.mark.parametrize(
    ("name", "change"),
    [("accuracy_change", -0.1), ("train_error", 0.1), ("seed_difference", 0.2), ("error", 0.9)],
)
def test_a_wrong_measurement_takes_the_finding_away(name: str, change: float) -> None:
    module = learned()
    subject = held(module, gives(lambda seed: turned(module, seed)), network)
    found = measured(subject)
    assert asked(subject, found).findings
    dataset = found.dataset.copy(deep=True)
    for suffix in ("", "_low", "_high"):
        values = dataset[name + suffix]
        if name == "train_error":
            values[..., 5] = values[..., 5] + change
        else:
            values += change
    assert asked(subject, Measurement(dataset)).findings == ()


def test_rounds_add_seeds() -> None:
    module = learned()
    subject = held(module, gives(lambda seed: turned(module, seed)), network, initial=network())
    found = measured(subject, rounds=2)
    assert found.dataset["seed"].values.tolist() == [1, 2, 3, 4]
    other = measure("mode-connectivity", subject, seed=1)
    assert isinstance(other, Measurement)
    assert other.dataset["seed"].values.tolist() == [1001, 1002]
    assert found.values("start_train_loss")[0] == found.values("train_loss")[0, 0, 0]
    each = found.values("barrier", line="as they are")
    mean = found.estimate("mean_barrier", line="as they are")
    assert mean.value == pytest.approx(each.mean())
    assert (mean.over, mean.kind) == ("training seeds", "indicative")
    assert "its own start" in str(asked(subject, found).tables)


def test_other_forms_are_refused() -> None:
    refused = measure("mode-connectivity", held(learned(), descends, lambda: network(8)))
    assert isinstance(refused, NotApplicable)
    assert "other names or shapes" in refused.reason
    (first, second) = data()
    lacking = measure("mode-connectivity", Subject(learned(), train=first, test=second))
    assert isinstance(lacking, NotApplicable)
    assert "no training function" in lacking.reason


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "check",
    [check_batch_split, check_old_state, check_precisions, check_same_seed, check_untouched],
)
def test_conformance_on_a_network_that_can_be_trained_again(
    check: Callable[..., None], norm: bool
) -> None:
    def build() -> nn.Module:
        return network(8, norm)

    def train(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
        with torch.no_grad():
            for index, parameter in enumerate(model.parameters()):
                parameter.copy_(drawn(*parameter.shape, seed=100 * seed + index))

    with seeded(5):
        module = build()

    def make(dtype: torch.dtype, batch_size: int = 512) -> Subject:
        rows = [(x[:60], y[:60]) for x, y in data()]
        return Subject(
            copy.deepcopy(module), train=rows[0], test=rows[1], dtype=dtype,
            batch_size=batch_size, trainer=Trainer(build, train),
        )  # fmt: skip

    check(mode_connectivity, make, torch.float32)
