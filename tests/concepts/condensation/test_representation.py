"""What features became: closed forms on networks, refusals, and the panel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from whynet.concepts.condensation.questions import representation
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.subject import Subject

DTYPES = [torch.float32, torch.float64]


def data(dtype: torch.dtype, rows: int = 240, noise: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    labels = torch.arange(rows) % 4
    inputs = torch.eye(4, dtype=torch.float64)[labels]
    drawn = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return (inputs + noise * drawn).to(dtype), labels


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_collapsed_features_on_a_network(dtype: torch.dtype) -> None:
    """Features are the one-hot class itself, doubled; the last layer is aligned with them."""
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4))
    with torch.no_grad():
        module[0].weight.copy_(2 * torch.eye(4))
        module[2].weight.copy_(torch.eye(4))
    found = measure("representation", Subject(module, test=data(dtype, noise=0.0), dtype=dtype))
    assert isinstance(found, Measurement)
    values = {name: found.estimate(name, split="test").value for name in
              ("feature_rank", "nc1", "nc2_norms", "nc2_angles", "nc3_alignment")}  # fmt: skip
    # Three, were the classes drawn evenly; the jackknife allows for their draw.
    assert values.pop("feature_rank") == pytest.approx(3, abs=0.1)
    assert values == pytest.approx(
        {"nc1": 0, "nc2_norms": 0, "nc2_angles": 0, "nc3_alignment": 1},
        abs=1e-6,
    )
    assert found.estimate("stable_rank", layer="0").value == pytest.approx(4)
    assert found.estimate("spectral_norm", layer="0").value == pytest.approx(2)


def test_convolutions_count_as_matrices_of_patches() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    inputs = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = measure("representation", Subject(module, test=(inputs, torch.arange(20) % 2)))
    assert isinstance(found, Measurement)
    sizes = torch.linalg.svdvals(module[0].weight.detach().reshape(3, 4))
    assert found.estimate("spectral_norm", layer="0").value == pytest.approx(float(sizes[0]))
    wanted = float((sizes**2).sum() / sizes[0] ** 2)
    assert found.estimate("stable_rank", layer="0").value == pytest.approx(wanted)
    assert np.isnan(found.estimate("nc2_angles", split="test").value)


def test_one_logit_is_two() -> None:
    inputs, labels = data(torch.float64)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    twin = nn.Sequential(module[0], module[1], nn.Linear(6, 2)).double()
    with torch.no_grad():
        twin[2].weight.copy_(torch.cat([-module[2].weight, module[2].weight]))
    one = measure("representation", Subject(module, test=(inputs, labels % 2), loss="bce"))
    two = measure("representation", Subject(twin, test=(inputs, labels % 2)))
    assert isinstance(one, Measurement)
    assert isinstance(two, Measurement)
    for name in ("nc1", "nc3_alignment"):
        assert one.estimate(name, split="test").value == pytest.approx(
            two.estimate(name, split="test").value
        )


def test_rare_classes_are_left_out_and_said_so() -> None:
    inputs, labels = data(torch.float32)
    labels = labels.clone()
    labels[labels == 3] = 2
    labels[:2] = 3
    found = measure("representation", Subject(network(), test=(inputs, labels)))
    assert isinstance(found, Measurement)
    assert "Classes with fewer than three examples are left out of the collapse." in found.notes


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Linear(4, 4), "reads the inputs themselves"),
        (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), "no linear layer was found"),
        (nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (2, 4)), nn.Linear(4, 2), nn.Flatten()),
         "more than one vector"),
    ],
)  # fmt: skip
def test_refusals(module: nn.Module, words: str) -> None:
    refused = measure("representation", Subject(module, test=data(torch.float32)))
    assert isinstance(refused, NotApplicable)
    assert words in refused.reason


def asked(initial: nn.Module | None) -> Panel:
    held = Subject(network(), train=data(torch.float32), test=data(torch.float32), initial=initial)
    before = {}
    if held.initial is not None:
        before["representation"] = measure("representation", held.initial)
    found = {"representation": measure("representation", held)}
    return representation.ask(Results(held.facts, found, before))


@pytest.mark.parametrize("initial", [None, network(1)], ids=["alone", "beside its start"])
def test_the_panel_has_numbers_and_pictures_and_no_finding(initial: nn.Module | None) -> None:
    panel = asked(initial)
    assert panel.findings == ()
    assert ("before training" in panel.lead) == (initial is not None)
    assert "on the training data" in panel.lead
    assert len(panel.figures) == len(panel.tables) == 2
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()


def test_regression_has_ranks_only() -> None:
    inputs, _ = data(torch.float32)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    held = Subject(module, test=(inputs, inputs[:, :1]), loss="mse")
    found = measure("representation", held)
    assert isinstance(found, Measurement)
    assert "nc1" not in found.names
    panel = representation.ask(Results(held.facts, {"representation": found}, {}))
    assert "inside classes" not in panel.lead
    assert len(panel.figures) == 1


def test_the_effective_dimension_stands_beside_the_start_and_the_parameters() -> None:
    held = Subject(network(), train=data(torch.float32), initial=network(1))
    assert held.initial is not None
    dimension = measure("effective-dimension", held), measure("effective-dimension", held.initial)
    known = {
        "representation": measure(
            "representation",
            Subject(network(), test=data(torch.float32), train=data(torch.float32)),
        )
    }
    panel = representation.ask(
        Results(
            held.facts,
            {**known, "effective-dimension": dimension[0]},
            {"effective-dimension": dimension[1]},
        )
    )
    table = panel.tables[-1]
    assert table.columns == ("effective dimension", "now", "at initialization")
    assert isinstance(dimension[0], Measurement)
    assert isinstance(dimension[1], Measurement)
    now, before = (d.estimate("effective_dimension", decay=0.001) for d in dimension)
    row = next(row for row in table.rows if row[0] == "α = 0.001")
    assert row[1:] == (now, before)
    count = sum(p.numel() for p in network().parameters())
    assert f"{count:,} directions" in panel.lead
    alone = representation.ask(Results(held.facts, {**known, "effective-dimension": dimension[0]}))
    assert "before training" not in alone.lead
    assert alone.tables[-1].columns == ("effective dimension", "now")
    assert all(len(row) == 2 for row in alone.tables[-1].rows)
    assert "directions of its weights" not in representation.ask(Results(held.facts, known)).lead
