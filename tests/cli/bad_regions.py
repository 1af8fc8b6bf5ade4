"""Mistakes on the command line of exact geometry."""
# ruff: noqa: E501 - a row is a line

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.cli.mistake import Mistake, write
from tests.cli.own import OWN


def _plane(name: str, pattern: str, **arrays: Any) -> Mistake:
    def prepare() -> None:
        np.savez("bad-plane.npz", **arrays)

    return Mistake(name, _measure("--plane", "bad-plane.npz"), "--plane", pattern, prepare)


def _measure(*words: str) -> tuple[str, ...]:
    return ("measure", "linear-regions", *OWN, "--out", "new/out", *words)


def _wide() -> None:
    code = "from torch import nn\n\n\ndef wide():\n    return nn.Linear(64, 3)\n"
    Path("wide.py").write_text(code, encoding="utf-8")
    np.savez("wide.npz", X=np.eye(64, dtype="f4")[:9], y=np.arange(9) % 3)


_AXES = np.eye(2, 4)
_SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]

MISTAKES = (
    Mistake("no place", _measure(), "linear-regions", "nothing that says where; wanted one of --through"),
    Mistake("two places", _measure("--through", "0,1,2", "--line", "0,1"), "--through", "--through and --line"),
    Mistake("two rows for a plane", _measure("--through", "0,1"), "--through", "'0,1'; wanted 3 different rows"),
    Mistake("a row twice", _measure("--through", "0,1,1"), "--through", "wanted 3 different rows"),
    Mistake("a negative row", _measure("--through=-1,1,2"), "--through", "wanted 3 different rows"),
    Mistake("no time", _measure("--box=-1,1", "--seconds", "0"), "--seconds", "0.0; wanted a number above 0"),
    Mistake("time for a line", _measure("--line", "0,1", "--seconds", "9"), "--seconds", "it beside --line"),
    Mistake("no rows", _measure("--line", "a,b"), "--line", "'a,b'; wanted 2 different rows"),
    Mistake("outside the data", _measure("--through", "0,1,60"), "--through", "row 60; wanted rows of the test data, from 0 to 59"),
    Mistake("colors in a box of four inputs", _measure("--box=-1,1", "--color", "slope"), "--color", "it beside a box; wanted it beside a plane, or a box of two"),
    Mistake("checkpoints in a box of four inputs", _measure("--box=-1,1", "--checkpoints", "end.safetensors"), "--checkpoints", "it beside a box"),
    Mistake("a box of 64 inputs", ("measure", "linear-regions", "wide.py:wide", "--test", "wide.npz", "--out", "new/out", "--box=-1,1"), "--box", r"inputs of shape \[64\]; wanted one with at most 16 inputs", _wide),
    Mistake("a box the wrong way", _measure("--box", "1,-1"), "--box", "ascending order"),
    Mistake("a box of words", _measure("--box", "x"), "--box", "'x'; wanted two finite numbers"),
    Mistake("no cells", _measure("--line", "0,1", "--max-cells", "0"), "--max-cells", "0; wanted a whole number"),
    Mistake("an unknown color", _measure("--line", "0,1", "--color", "red"), "--color", "one of class, slope, depth"),
    Mistake("a color of a line", _measure("--line", "0,1", "--color", "class"), "--color", "beside a plane"),
    Mistake("checkpoints that are not there", _measure("--through", "0,1,2", "--checkpoints", "end.safetensors", "nowhere.pt"), "--checkpoints", "no file 'nowhere.pt'"),
    Mistake("checkpoints of a line", _measure("--line", "0,1", "--checkpoints", "end.safetensors"), "--checkpoints", "beside a plane"),
    Mistake("rounds of geometry", _measure("--line", "0,1", "--rounds", "2"), "--rounds", "no rounds"),
    Mistake("geometry of another instrument", ("measure", "fit", *OWN, "--through", "0,1,2"), "--through", "beside linear-regions alone"),
    Mistake("no plane", _measure("--plane", "nowhere.npz"), "--plane", "no file 'nowhere.npz'"),
    Mistake("a plane of text", _measure("--plane", "text.npz"), "--plane", "cannot be read", write("text.npz", "hello")),
    Mistake("geometry in a folder with other content", ("measure", "linear-regions", *OWN, "--line", "0,1", "--out", "."), "--out", "other content"),
    _plane("a plane of other arrays", "with x; wanted an .npz", x=_SQUARE),
    _plane("dependent directions", r"depend on each other \(its axes\)", origin=np.zeros(4), axes=np.ones((2, 4)), polygon=_SQUARE),
    _plane("a polygon that is not convex", r"turns inward at \(0.2, 0.2\) \(its polygon\)", origin=np.zeros(4), axes=_AXES, polygon=[[0, 0], [1, 0], [0.2, 0.2], [0, 1]]),
    _plane("a polygon without area", "without area", origin=np.zeros(4), axes=_AXES, polygon=[[0, 0], [1, 1], [2, 2]]),
    _plane("points on a line", "three points that lie on a line", points=np.arange(3)[:, None] * np.ones(4)),
    _plane("a plane of another network", r"points of shape \[5\]", origin=np.zeros(5), axes=np.eye(2, 5), polygon=_SQUARE),
    _plane("a plane that is not finite", "not finite", origin=np.full(4, np.nan), axes=_AXES, polygon=_SQUARE),
)  # fmt: skip
