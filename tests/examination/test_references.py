"""Reference networks: trained when asked for, kept, and beside every number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.examination.small import small_subject
from torch import Tensor, nn

from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.core.question import SEEDS, SHUFFLED, UNTRAINED
from whynet.examination.examine import examine
from whynet.examination.folder import read_manifest, read_results, reference_path
from whynet.examination.references import References, reference_from, variation_of, view_name
from whynet.examination.verification import verify
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject

TRAININGS: list[int] = []


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
    TRAININGS.append(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def trainable(function: Any = train) -> Subject:
    small = small_subject()
    return Subject(
        small.module, train=small.train, test=small.test, initial=small.initial.module,  # type: ignore[union-attr]
        trainer=Trainer(build, function),
    )  # fmt: skip


def test_views_and_their_names() -> None:
    assert tuple(References(trainable(), 2)) == (
        "trained", "initial", "shuffled", "seed-1", "seed-2",
    )  # fmt: skip
    assert tuple(References(trainable(), 0)) == ("trained", "initial")
    assert tuple(References(small_subject(), 3)) == ("trained", "initial")
    assert view_name("initial") == UNTRAINED and view_name("shuffled") == SHUFFLED
    for view in ("trained", "initial", "seed-", "seed-x", "../seed-1"):
        with pytest.raises(KeyError):
            variation_of(view)
    for seeds in (-1, 101, True, "3"):
        with pytest.raises(InputError, match="seeds: found"):
            References(trainable(), seeds)  # type: ignore[arg-type]


def test_a_reference_is_trained_once_and_knows_no_training() -> None:
    TRAININGS.clear()
    references = References(trainable(), 1)
    assert references["seed-1"] is references["seed-1"]
    assert TRAININGS == [1] and references.made.keys() == {"seed-1"}
    assert not references["seed-1"].tags & {"retrainable", "initialization"}
    assert references["trained"].tags >= {"retrainable", "initialization"}
    with pytest.raises(KeyError):
        references["seed-2"]


def test_shuffled_labels_are_a_permutation_and_the_test_data_stay() -> None:
    references = References(trainable(), 1)
    own, other = references["trained"], references["shuffled"]
    assert own.train is not None and other.train is not None and own.test is other.test
    inputs, targets = own.train.take(range(own.train.count))
    same, shuffled = other.train.take(range(other.train.count))
    assert torch.equal(inputs, same) and not torch.equal(targets, shuffled)
    assert torch.equal(targets.sort().values, shuffled.sort().values)


def test_a_reference_comes_back_from_its_weights() -> None:
    references = References(trainable(), 1)
    for view in ("shuffled", "seed-1"):
        again = reference_from(references["trained"], view, references[view].module.state_dict())
        for split in ("train", "test"):
            for one, two in zip(again.outputs(split), references[view].outputs(split), strict=True):
                assert torch.equal(one, two)


def test_a_training_that_fails_is_tried_once_and_told() -> None:
    tries: list[int] = []

    def fail(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
        tries.append(seed)
        raise RuntimeError("no luck")

    done = examine(trainable(fail), only=["fit", "calibration"], seeds=2)
    assert sorted(tries) == [1, 1, 2] and not done.report.failed
    assert done.report.others.keys() == {"initial"} and not done.references
    notes = " ".join(done.report.reference_notes)
    assert "'shuffled labels' could not be had: no luck" in notes and "'seed 2'" in notes


def test_numbers_stand_beside_those_of_the_references(tmp_path: Path) -> None:
    done = examine(trainable(), only=["generalization"], seeds=2)
    assert done.report.others.keys() == {"initial", "shuffled", "seed-1", "seed-2"}
    (answer,) = done.report.answers
    assert answer.beside is not None and answer.panel is not None
    assert answer.beside.columns[:4] == ("number", "this network", UNTRAINED, SHUFFLED)
    row = next(row for row in answer.beside.rows if row[0] == "accuracy, test")
    found = [
        done.report.others[view]["fit"].estimate("accuracy", split="test")
        for view in ("initial", "shuffled")
    ]
    assert list(row[2:4]) == found
    names = [reference.name for reference in answer.panel.findings[0].references]
    assert SEEDS in names and SHUFFLED in names and names.count(UNTRAINED) == 1
    done.save(str(tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Beside its references" in page and "other seeds" in page
    assert read_results(tmp_path / "out", "seed-2").keys() == {"fit", "baselines"}


def test_what_a_manifest_says_was_reached_is_what_runs_again() -> None:
    first = examine(trainable(), only=["generalization"], seeds=1)
    kept = {"trained": ["fit"], "seed-1": ["fit"]}
    again = examine(trainable(), only=["generalization"], seeds=1, reached=kept)
    assert again.report.others.keys() == {"seed-1"}
    one, two = (done.report.others["seed-1"]["fit"] for done in (first, again))
    assert isinstance(one, Measurement) and one.dataset.identical(two.dataset)
    assert again.reached == {view: tuple(names) for view, names in kept.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from whynet.examination.folder import save
    from whynet.examination.manifest import Request
    from whynet.examination.source import load_subject

    place = tmp_path_factory.mktemp("kept") / "out"
    request = Request(target="breast-cancer-mlp", only=("fit",))
    loaded = load_subject(request, announce=lambda message: None)
    with loaded.computing():
        save(examine(loaded.subject, only=["fit"], seeds=1), place, request=loaded.request)
    return place


def test_references_are_verified_from_kept_weights(folder: Path) -> None:
    assert read_manifest(folder).seeds == 1
    results = {r.name: r for r in verify(folder, announce=lambda message: None)}
    assert results.keys() == {
        "fit", "fit, at initialization", "fit, seed 1", "fit, shuffled labels",
    }  # fmt: skip
    assert all(result.stands and result.largest == 0 for result in results.values())


def test_a_reference_that_was_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    shutil.copy(place / "weights.safetensors", reference_path(place, "seed-1"))
    with pytest.raises(StoreError, match="weights of a reference seed-1 that were changed"):
        verify(place, announce=lambda message: None)
    reference_path(place, "seed-1").unlink()
    with pytest.raises(StoreError, match="without the weights of a reference seed-1"):
        verify(place, announce=lambda message: None)
