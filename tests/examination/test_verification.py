from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.own import write_subject

from whynet.concepts.generalization.instruments import fit
from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement, Quantity
from whynet.examination.examine import examine
from whynet.examination.manifest import Request
from whynet.examination.source import load_subject
from whynet.examination.verification import _held, verify


def silent(message: str) -> None:
    pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An examination made in Python, with the files that it came from."""
    write_subject(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = Request(
        target="model.py:build", weights="end.safetensors", train="train.npz", test="test.npz",
        dtype="float64",
    )  # fmt: skip
    subject = load_subject(asked, announce=silent).subject
    examine(subject, only=["fit"]).save("out")
    return tmp_path / "out"


def test_an_examination_made_in_python_asks_for_its_target(place: Path) -> None:
    with pytest.raises(InputError, match="TARGET: found an examination made in Python"):
        verify(place, announce=silent)
    told: list[str] = []
    results = verify(
        place, target="model.py:build", train="train.npz", test="test.npz", announce=told.append
    )
    assert [(r.name, r.stands, r.largest) for r in results] == [("fit", True, 0.0)]
    assert results[0].entries == 7 and told == ["running code from model.py"]
    with pytest.raises(InputError, match="--train: found content of SHA-256"):
        verify(place, target="model.py:build", train="test.npz", test="test.npz", announce=silent)


def test_results_are_not_read_before_all_is_recomputed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    advance = fit.advance
    monkeypatch.setattr(fit, "advance", lambda state: (steps.append("measure"), advance(state))[1])
    from whynet.examination import verification

    read = verification.read_results
    monkeypatch.setattr(
        verification, "read_results", lambda *words: (steps.append("read"), read(*words))[1]
    )
    verify(place, target="model.py:build", train="train.npz", test="test.npz", announce=silent)
    assert steps == ["measure", "read"]


def test_what_cannot_be_recomputed_does_not_stand(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(state: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(fit, "advance", fail)
    words = {"target": "model.py:build", "train": "train.npz", "test": "test.npz"}
    results = verify(place, **words, announce=silent)
    assert [(r.stands, r.reason) for r in results] == [(False, "RuntimeError: no luck")]


def test_another_network_in_the_code_moves_the_numbers(place: Path) -> None:
    Path("other.py").write_text(
        "from torch import nn\n\n\nclass Turned(nn.Sequential):\n    def forward(self, x):\n"
        "        return super().forward(-x)\n\n\ndef build():\n"
        "    return Turned(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n",
        encoding="utf-8",
    )
    words = {"target": "other.py:build", "train": "train.npz", "test": "test.npz"}
    (result,) = verify(place, **words, announce=silent)
    assert not result.stands and {"loss", "accuracy"} <= set(result.moved)


def test_no_folder_no_verification(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="wanted the folder of an examination"):
            verify(path, announce=silent)
    (tmp_path / "manifest.toml").write_text('target = "digits-mlp"', encoding="utf-8")
    with pytest.raises(StoreError, match=r"without weights\.safetensors"):
        verify(tmp_path, announce=silent)


def one(value: float, low: float, high: float, kind: str = "interval") -> Measurement:
    return Measurement.of({"x": Quantity(value, low, high, kind=kind)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recorded", "stands"),
    [
        (one(1.0, 0.9, 1.1), True),
        (one(1.05, 0.95, 1.15), True),
        (one(1.0, 0.9, 1.1 + 1e-9), True),
        (one(1.2, 1.1, 1.3), False),
        (one(1.2, 0.9, 1.3), False),
        (one(1.0, -9.0, 9.0), False),
        (one(1.0, 0.9, float("inf")), False),
        (one(1.0, 0.9, 1.1, "certified"), False),
        (one(1.0, 1.0, 1.0, "exact"), False),
    ],
)
def test_what_stands(recorded: Measurement, stands: bool) -> None:
    assert _held("x", one(1.0, 0.9, 1.1), recorded, 1e-7).stands is stands


def test_endless_intervals_and_missing_entries_stand_as_they_are() -> None:
    nan, inf = float("nan"), float("inf")
    both = Measurement.of(
        {"x": Quantity([nan, 2.0], [nan, -inf], [nan, inf], dims=("t",), kind="interval",
                       missing="no first")}
    )  # fmt: skip
    result = _held("x", both, both, 1e-7)
    assert result.stands and result.entries == 1 and result.largest == 0.0
