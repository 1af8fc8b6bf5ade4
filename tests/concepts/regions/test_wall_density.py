"""Walls around examples, of networks whose walls are known, and the panel that shows them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.concepts.regions.test_segment_pieces import between, hinges
from torch import nn

from whynet.concepts.measuring import measure
from whynet.concepts.registry import load_question
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.question import Results
from whynet.models.subject import Subject


def taken(subject: Subject, rounds: int = 1, instrument: str = "wall-density") -> Measurement:
    found = measure(instrument, subject, rounds=rounds)
    assert isinstance(found, Measurement), found
    return found


class Grid(nn.Module):
    """Parallel walls at all whole numbers between -40 and 40 of the first of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.arange(-40.0, 41.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :1] - self.places).relu().sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_parallel_walls_are_met_as_often_as_the_mean_cosine_says(dtype: torch.dtype) -> None:
    """A line of random direction in a plane crosses walls at distance 1 as 2 / pi a length."""
    generator = torch.Generator().manual_seed(0)
    inputs = 20 * torch.rand((400, 2), generator=generator).to(dtype) - 10
    subject = Subject(Grid(), test=(inputs, torch.zeros(400, 1)), loss="mse", dtype=dtype)
    found = taken(subject, rounds=10)
    for place in ("around examples", "between examples"):
        density = found.estimate("wall_density", place=place)
        assert density.kind == "interval"
        assert abs(density.value - 2 / math.pi) < 2 * (density.high - density.low) / 2
        assert density.high - density.low < 0.2 * density.value
    spread = float((inputs - inputs.mean(0)).double().square().sum(1).mean().sqrt())
    assert float(found.values("radius")) == pytest.approx(0.1 * spread, rel=1e-6)


def test_where_no_wall_is_near_there_is_none() -> None:
    rows = torch.linspace(2, 3, 300)[:, None]
    found = taken(Subject(hinges(), test=(rows, torch.zeros(300, 1)), loss="mse"))
    assert found.values("wall_density").tolist() == [0, 0]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_few_rows_still_have_segments(count: int) -> None:
    rows = torch.linspace(-1, 1, count)[:, None]
    found = taken(Subject(hinges(), test=(rows, torch.zeros(count, 1)), loss="mse"))
    assert np.isfinite(found.values("wall_density")).all()


def test_equal_examples_have_no_spread() -> None:
    found = measure("wall-density", Subject(hinges(), test=between(0.5, 0.5), loss="mse"))
    assert isinstance(found, NotApplicable)
    assert "same input" in found.reason


def test_the_panel_puts_the_references_beside() -> None:
    rows = (torch.linspace(-1, 1, 300)[:, None], torch.zeros(300, 1))
    bent = Subject(hinges(), test=rows, loss="mse")
    flat = Subject(
        nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), test=rows, loss="mse"
    )
    names = ("segment-pieces", "wall-density")
    held = [{name: taken(s, instrument=name) for name in names} for s in (bent, flat)]
    module = load_question("pieces")
    panel = module.ask(Results(bent.facts, held[0], held[1], held[1]))
    assert "(before training" in panel.lead and "with shuffled labels" in panel.lead
    counts, density = panel.tables
    assert [row[0] for row in counts.rows[:3]] == [
        "pieces: a unit switches",
        "pieces: a unit switches, at initialization",
        "pieces: a unit switches, shuffled labels",
    ]
    assert [row[0] for row in density.rows] == [
        "this network", "at initialization", "shuffled labels",
    ]  # fmt: skip
    assert density.rows[0][1] == held[0]["wall-density"].estimate(
        "wall_density", place="around examples"
    )
    alone = module.ask(Results(bent.facts, {"segment-pieces": held[0]["segment-pieces"]}))
    assert len(alone.tables) == 1
    assert "before training" not in alone.lead
