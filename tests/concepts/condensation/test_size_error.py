"""Size against error: closed forms, which layers are covered, and the question."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.condensation.instruments import size_error
from whynet.concepts.condensation.instruments.size_error import SHARES, relative_error
from whynet.concepts.condensation.questions import size
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.reduced_layers import find_hidden
from whynet.models.subject import Subject


def test_relative_error_of_known_parts() -> None:
    rows = np.random.default_rng(7).standard_normal((300, 2))
    spread = ((rows - rows.mean(0)) ** 2).sum() / 300
    value, low, high = relative_error(np.full(300, 0.04 * spread), rows)
    assert value == pytest.approx(0.2, rel=1e-2)
    assert low < 0.2 < high
    assert relative_error(np.zeros(300), rows) == (0, 0, 0)
    assert np.isnan(relative_error(np.ones(300), np.ones((300, 2)))).all()


def network(weight: Tensor, last: Tensor, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    first, reader = nn.Linear(weight.shape[1], len(weight)), nn.Linear(len(weight), len(last))
    with torch.no_grad():
        first.weight.copy_(weight)
        first.bias.zero_()
        reader.weight.copy_(last)
    return nn.Sequential(first, nn.ReLU(), reader).to(dtype)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted() -> nn.Sequential:
    """Thirty-two units in six directions, at different lengths."""
    lengths = 0.5 + drawn(32, 1, seed=1).abs()
    return network(drawn(6, 8, seed=0).repeat(6, 1)[:32] * lengths, drawn(3, 32, seed=2))


def scattered() -> nn.Sequential:
    return network(drawn(32, 8, seed=3), drawn(3, 32, seed=4))


def held(module: nn.Module, initial: nn.Module | None = None, rows: int = 600) -> Subject:
    x = drawn(2 * rows, 8, seed=5)
    with torch.no_grad():
        y = module.float()(x).argmax(1)
    y[::10] = 0
    return Subject(module, train=(x[:rows], y[:rows]), test=(x[rows:], y[rows:]), initial=initial)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_six_directions_need_six_units(dtype: torch.dtype) -> None:
    found = measure("size-error", held(planted()).in_precision(dtype))
    assert isinstance(found, Measurement)
    kept = found.values("kept", layer="0")
    error = found.values("relative_error", layer="0", method="chosen")
    assert (error[kept >= 6] < 1e-4).all()
    assert (error[kept < 6] > 0.05).all()
    still = found.values("relative_error", layer="0", method="magnitude")
    assert (still[1:] > 0.05).all()
    change = found.values("accuracy_change", layer="0")
    assert (change[kept >= 6] == 0).all()
    gap = found.values("accuracy", layer="0", method="chosen") - found.values("full_accuracy")
    assert change == pytest.approx(gap)


def test_factors_between_a_unit_and_its_reader_change_nothing() -> None:
    base, factor = scattered().double(), (0.1 + 5 * drawn(32, seed=8).abs()).double()
    turned = scattered().double()
    with torch.no_grad():
        turned[0].weight *= factor[:, None]
        turned[2].weight /= factor
    one, two = (measure("size-error", held(m).in_precision(torch.float64)) for m in (base, turned))
    assert isinstance(one, Measurement)
    assert isinstance(two, Measurement)
    assert two.values("relative_error") == pytest.approx(one.values("relative_error"), rel=1e-4)


class Shared(nn.Module):
    """Three layers: of one the units are read twice, of one by a sum, of one as they should."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.left, self.right = (nn.Linear(8, 8) for _ in range(3))
        self.summed, self.inner, self.last = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.twice(x))
        mixed = self.left(hidden) + self.right(hidden)
        added = torch.tanh(self.summed(mixed))
        scores: Tensor = self.last(torch.relu(self.inner(added))) + added
        return scores


def test_only_layers_with_one_reader_are_covered() -> None:
    found, others = find_hidden(held(Shared()))
    assert [(hidden.path, hidden.reader) for hidden in found] == [("inner", "last")]
    assert others == ("twice", "summed")
    measured = measure("size-error", held(Shared()))
    assert isinstance(measured, Measurement)
    assert "Hidden layers that are not covered: twice, summed." in measured.notes


def test_of_many_layers_the_widest_are_reduced() -> None:
    widths = [8, 9, 10, 4, 11, 12, 13, 14]
    pairs = [(nn.Linear(a, b), nn.Tanh()) for a, b in itertools.pairwise(widths)]
    module = nn.Sequential(*itertools.chain(*pairs), nn.Linear(14, 3))
    found = measure("size-error", held(module, rows=100))
    assert isinstance(found, Measurement)
    assert found.dataset["layer"].values.tolist() == ["0", "2", "6", "8", "10", "12"]
    assert "Hidden layers that are not covered: 4." in found.notes


def test_large_data_are_cut_to_a_seeded_subset() -> None:
    found = measure("size-error", held(planted(), rows=2100))
    assert isinstance(found, Measurement)
    assert "A seeded subset of 2,000 test examples was used." in found.notes
    again = measure("representation", held(planted(), rows=11_000))
    assert isinstance(again, Measurement)
    assert "A seeded subset of 10,000 test examples was used." in again.notes


def test_convolutions_are_refused() -> None:
    module = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Flatten(),
                           nn.Linear(21, 3))  # fmt: skip
    refused = measure("size-error", held(module))
    assert isinstance(refused, NotApplicable)
    assert "between two linear layers" in refused.reason


def asked(module: nn.Module, initial: nn.Module | None, rows: int = 600) -> Panel:
    subject = held(module, initial, rows)
    found = measure("size-error", subject)
    assert isinstance(found, Measurement)
    before = {}
    if subject.initial is not None:
        before["size-error"] = measure("size-error", subject.initial)
    return size.ask(Results(subject.facts, {"size-error": found}, before))


def draw(panel: Panel) -> None:
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()


def test_a_network_that_could_be_smaller_is_told_so() -> None:
    panel = asked(planted(), scattered())
    (finding,) = panel.findings
    assert finding.headline == "It could be smaller."
    assert "**6 of the 32** units of layer 0 reproduce its outputs" in finding.numbers
    assert "Train a network with about 6 units" in finding.advice
    assert "whynet" not in finding.advice
    assert [reference.name for reference in finding.references] == [
        "at initialization", "magnitude", "random",
    ]  # fmt: skip
    assert all(finding.estimate.high < reference.low for reference in finding.references)
    draw(panel)


def test_nothing_is_said_without_a_reference_that_needs_more() -> None:
    assert asked(planted(), None).findings == ()
    assert asked(planted(), planted()).findings == ()
    assert asked(scattered(), planted()).findings == ()


def test_nothing_is_said_where_examples_cannot_tell() -> None:
    """Below 381 examples even equal answers leave more than one point open."""
    panel = asked(planted(), scattered(), rows=300)
    assert panel.findings == ()
    assert "With 16 of the 32 units of layer 0" in panel.lead
    draw(panel)


def test_the_first_size_that_fails_ends_the_search() -> None:
    measured = measure("size-error", held(planted()))
    assert isinstance(measured, Measurement)
    dataset = measured.dataset.copy(deep=True)
    dataset["accuracy_change_low"][0, 2] = -0.5
    small = size.smallest(Measurement(dataset))
    assert small is not None
    assert small.share == SHARES[1]
    dataset["accuracy_change_low"][0, 0] = -0.5
    assert size.smallest(Measurement(dataset)) is None


def test_regression_has_errors_and_no_finding() -> None:
    x = drawn(400, 8, seed=5)
    module = network(drawn(6, 8, seed=0).repeat(6, 1)[:32], drawn(1, 32, seed=2))
    subject = Subject(module, train=(x, x[:, :1]), test=(x, x[:, :1]), loss="mse")
    found = measure("size-error", subject)
    assert isinstance(found, Measurement)
    assert "accuracy" not in found.names
    panel = size.ask(Results(subject.facts, {"size-error": found}, {}))
    assert panel.findings == ()
    assert "accuracy" not in panel.lead
    draw(panel)


def test_where_a_pass_is_dear_test_rows_go_first_and_layers_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    sizes = [8, 16, 16, 16, 3]
    parts = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    subject = held(nn.Sequential(*parts[:-1]))
    passes = 1 + len(SHARES) * 5
    for rows, layers, examples in ((5000, 3, 600), (400, 3, 400), (200, 2, 300), (1, 1, 128)):
        work = size_error.MOST_WORK / (passes * 3 * rows) * (1 - 1e-9)
        monkeypatch.setattr(size_error, "forward_work", lambda _, work=work: work)
        found = measure("size-error", subject)
        assert isinstance(found, Measurement)
        assert len(found.dataset["layer"]) == layers
        assert any(f"subset of {examples} test" in note for note in found.notes) == (rows < 600)
        missing = [note for note in found.notes if "not covered" in note]
        assert len(missing) == (layers < 3)
