from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.own import write_subject

from whynet.core.errors import InputError
from whynet.examination.manifest import Request
from whynet.examination.source import load_subject


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    write_subject(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Request(target="model.py:build", weights="end.safetensors", test="test.npz")


def silent(message: str) -> None:
    pass


def test_hashes_are_filled_in_and_held_against(own: Request) -> None:
    loaded = load_subject(dataclasses.replace(own, loss="model.py:smooth"), announce=silent)
    assert loaded.request.sha256.keys() == {"target", "weights", "loss", "test"}
    assert load_subject(loaded.request, announce=silent).request == loaded.request
    for role, option in (("target", "TARGET"), ("weights", "--weights"), ("test", "--test")):
        other = dataclasses.replace(own, sha256={role: "0" * 64})
        with pytest.raises(InputError, match="the recorded 000000000000") as refused:
            load_subject(other, announce=silent)
        assert refused.value.argument == option


def test_a_built_in_subject_is_trained_once_and_then_loaded(tmp_path: Path) -> None:
    from whynet.examination.folder import save_weights

    first = load_subject(Request(target="breast-cancer-mlp"), announce=silent).subject
    assert first.initial is not None
    save_weights(first.module, tmp_path / "w.safetensors")
    state = torch.random.get_rng_state()
    asked = Request(target="breast-cancer-mlp", weights=str(tmp_path / "w.safetensors"))
    again = load_subject(asked, announce=silent, progress=None).subject
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.initial is not None
    for one, other in ((first, again), (first.initial, again.initial)):
        for name, value in one.parameters.items():
            assert torch.equal(value, other.parameters[name])


def test_code_is_announced_before_it_runs(own: Request) -> None:
    told: list[tuple[str, bool]] = []
    Path("spy.py").write_text(
        "open('ran', 'w').close()\nfrom torch import nn\n\n\ndef build():\n"
        "    return nn.Linear(4, 3)\n",
        encoding="utf-8",
    )
    asked = dataclasses.replace(own, target="spy.py:build", weights=None)
    subject = load_subject(
        asked, announce=lambda words: told.append((words, Path("ran").exists()))
    ).subject
    assert told == [("running code from spy.py", False)]
    assert any("No --weights were given" in note for note in subject.notes)


def test_memory_lowers_the_batch_and_the_request_says_so(own: Request) -> None:
    loaded = load_subject(dataclasses.replace(own, memory="6k"), announce=silent)
    assert loaded.request.batch_size == loaded.subject.batch_size < 512
    again = load_subject(loaded.request, announce=silent)
    assert again.request == loaded.request


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision(own: Request, dtype: str) -> None:
    subject = load_subject(dataclasses.replace(own, dtype=dtype), announce=silent).subject
    assert subject.dtype == getattr(torch, dtype)
    outputs, _ = subject.outputs("test")
    assert np.isfinite(outputs.numpy()).all()


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"output": "logits"}, "--output"),
        ({"target": "model.py:entries", "weights": None}, "--output"),
        ({"init_weights": "test.npz"}, "--init-weights"),
        ({"loss": "mse"}, "--test"),
        ({"loss": "nonsense"}, "--loss"),
        ({"device": "cuda:99"}, "--device"),
        ({"test": None}, "--test"),
    ],
)
def test_refusals_name_the_option(
    own: Request, changes: dict[str, str | None], argument: str
) -> None:
    with pytest.raises(InputError) as refused:
        load_subject(dataclasses.replace(own, **changes), announce=silent)  # type: ignore[arg-type]
    assert refused.value.argument == argument
