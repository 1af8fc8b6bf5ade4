"""Pieces of a network in training, between and around its rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.test_recorder import data
from torch import nn

import whynet
from whynet.training.recorder import Recorder


def test_pieces_are_those_of_the_same_segments_and_triangle_at_every_step() -> None:
    x, y = data()
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    recorder = Recorder(model, train=(x, y), steps=[1, 2], quantities=["pieces"])
    recorder(1)
    with torch.no_grad():
        model[0].weight.zero_()
    recorder(2)
    found = recorder.trajectory()
    pieces = [found.estimate("pieces_between_rows", step) for step in (0, 1, 2)]
    cells = [found.estimate("cells_of_triangle", step).value for step in (0, 1, 2)]
    assert (pieces[0], cells[0]) == (pieces[1], cells[1])
    assert (pieces[2].value, cells[2]) == (1.0, 1.0)
    assert pieces[0].over == "segments between training rows"
    assert pieces[0].low < pieces[0].value < pieces[0].high
    # The same by the weights alone: walls between two rows, and lines that cross a triangle.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    recorder = Recorder(model, train=(x, y), steps=[], quantities=["pieces"])
    order, held = recorder._fixed.order, recorder._fixed.subject.examples("train")
    rows = held.take(order.tolist())[0]
    with torch.no_grad():
        sides = model[0](rows.double()) > 0
    count = min(30, len(rows) // 2)
    switched = (sides[:count] != sides[count : 2 * count]).sum(1) + 1
    found = recorder.trajectory()
    mean = float(switched.double().mean())
    assert found.estimate("pieces_between_rows").value == pytest.approx(mean)
    corners = rows[:3].double()
    plane = whynet.regions.Plane(
        corners[0], corners[1:] - corners[0], np.array([[0.0, 0], [1, 0], [0, 1]])
    )
    exact = whynet.regions.subdivide(model, plane)
    assert found.estimate("cells_of_triangle").value == exact.count > 3


def test_pieces_of_what_is_curved_or_has_no_triangle_have_their_reason() -> None:
    x, y = data()
    curved = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    line = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    for model, inputs, names, words in (
        (curved, x, ("pieces_between_rows", "cells_of_triangle"), "Tanh, which is curved"),
        (line, x[:, :1], ("cells_of_triangle",), "on a line"),
    ):
        recorder = Recorder(model, train=(inputs, y), steps=[], quantities=["pieces"])
        missing = recorder.trajectory().dataset
        for name in names:
            assert words in missing[name].attrs["missing"]
