"""Two networks side by side: identical, permuted, other seeds, closed forms and refusals."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.examination.small import small_subject
from torch import nn

import whynet
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.examination.comparison import Comparison, compare
from whynet.models.alignment import Alignment, align, weight_distance
from whynet.models.subject import Subject


def numbers(comparison: Comparison) -> Measurement:
    found = comparison.report.outcomes["comparison"]
    assert isinstance(found, Measurement)
    return found


def value(comparison: Comparison, name: str) -> float:
    return numbers(comparison).estimate(name).value


def keys(comparison: Comparison) -> list[str]:
    return [finding.key for finding in comparison.report.findings]


def deep_subject() -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)
        )
        x = torch.randn(90, 4)
    # Two dead units: only what enters their activation tells them apart.
    with torch.no_grad():
        network[0].bias[:2] = -50.0
    return Subject(network, test=(x, x[:, :3].argmax(1)))


def permuted(subject: Subject) -> Subject:
    module = copy.deepcopy(subject.module)
    one, two, three = module[0], module[2], module[4]  # type: ignore[index]
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for layer, reader in ((one, two), (two, three)):
            order = torch.randperm(len(layer.weight), generator=generator)
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
            reader.weight.copy_(reader.weight[:, order].clone())
    return subject.replaced(module)


def noisy(subject: Subject, size: float) -> Subject:
    module = copy.deepcopy(subject.module)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return subject.replaced(module)


def test_identical_networks_agree_and_nothing_moves() -> None:
    subject = small_subject()
    found = compare(subject, subject.replaced(subject.module))
    assert value(found, "agreement") == 1.0
    assert value(found, "churn") == value(found, "loss_difference") == 0.0
    assert value(found, "readings_moved") == 0.0
    assert value(found, "readings_compared") > 10
    assert value(found, "output_distance") == value(found, "weight_distance") == 0.0
    assert value(found, "weight_cosine") == pytest.approx(1.0)
    assert value(found, "neurons_in_place") == 1.0
    assert found.flips == ()
    assert keys(found) == ["difference", "churn"]
    assert found.report.findings[0].headline == "They score the same on every example."
    assert "same answer on all 60 examples" in found.report.findings[1].headline
    # No change among 60 still leaves room for one: the bar does not vanish.
    assert numbers(found).estimate("churn").high == pytest.approx(1 - 0.025 ** (1 / 60))


def test_permuted_neurons_are_one_function_and_match() -> None:
    subject = deep_subject()
    found = compare(subject, permuted(subject), readings=())
    assert value(found, "output_distance") < 1e-6
    assert value(found, "weight_distance") > 1.0
    assert value(found, "matched_weight_distance") < 1e-6
    assert value(found, "matched_correlation") == pytest.approx(26 / 28)  # the dead are constant
    assert value(found, "chance_correlation") < 0.6
    assert value(found, "neurons_in_place") < 0.5
    assert "same_up_to_order" in keys(found)


def test_matching_keeps_the_function_and_never_invents_agreement() -> None:
    first, second = deep_subject(), deep_subject()
    with torch.random.fork_rng():
        torch.manual_seed(77)
        for layer in (second.module[0], second.module[2], second.module[4]):  # type: ignore[index]
            layer.reset_parameters()
    matched = align(first, second, "test")
    assert isinstance(matched, Alignment)
    inputs, _ = next(second.batches("test"))
    with torch.no_grad():
        assert torch.allclose(matched.module(inputs), second.module(inputs), atol=1e-6)
    assert matched.correlation > matched.by_chance
    assert weight_distance(first.module, matched.module)[0].distance > 0.7
    assert "same_up_to_order" not in keys(compare(first, second, readings=()))


def test_a_network_of_another_form_is_not_matched_and_says_so() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    subject = small_subject()
    other = Subject(network, train=subject.train, test=subject.test)
    found = compare(other, noisy(other, 0.1), readings=())
    assert "matched_weight_distance" not in numbers(found).names
    panel = found.report.answers[-1].panel
    assert panel is not None
    assert "of another form" in panel.lead


def test_a_broken_network_is_worse_and_its_readings_move() -> None:
    subject = small_subject()
    worse = noisy(subject, 3.0)
    found = compare(subject, worse, readings=("fit",))
    assert found.report.findings[0].headline == "B has the worse accuracy."
    assert value(found, "readings_moved") >= 1
    back = compare(worse, subject, readings=("fit",))
    assert back.report.findings[0].headline == "B has the better accuracy."
    for name in ("accuracy_difference", "loss_difference"):
        assert value(back, name) == pytest.approx(-value(found, name))
    assert value(back, "fixed") == value(found, "broken")
    assert value(back, "output_distance") == pytest.approx(value(found, "output_distance"))


def test_churn_splits_and_flips_are_the_rows_that_changed() -> None:
    subject = small_subject()
    found = compare(subject, noisy(subject, 0.3), readings=())
    (one, labels), (two, _) = found.subject.outputs("test"), found.other.outputs("test")
    changed = set(np.flatnonzero((one.argmax(1) != two.argmax(1)).numpy()).tolist())
    assert 0 < len(changed) <= 20
    assert {flip.row for flip in found.flips} == changed
    sure = [flip.confidence for flip in found.flips]
    assert sure == sorted(sure, reverse=True)
    parts = sum(value(found, name) for name in ("fixed", "broken", "changed_wrong"))
    assert parts == pytest.approx(value(found, "churn")) == pytest.approx(len(changed) / 60)
    assert value(found, "accuracy_difference") == pytest.approx(
        value(found, "fixed") - value(found, "broken")
    )
    for flip in found.flips:
        assert (flip.first, flip.second, flip.label) == (
            one[flip.row].argmax(), two[flip.row].argmax(), labels[flip.row]
        )  # fmt: skip


def test_two_seeds_of_a_built_in_subject() -> None:
    from whynet.training.builtin import load_builtin

    one, two = (load_builtin("diabetes-mlp", seed=seed) for seed in (0, 1))
    first, second = (
        Subject(b.module, train=b.train, test=b.test, loss=b.loss, name=f"seed {i}")
        for i, b in enumerate((one, two))
    )
    found = compare(first, second, readings=("fit",))
    assert "churn" not in numbers(found).names
    for name in ("r_squared_difference", "rmse_difference", "loss_difference"):
        assert numbers(found).estimate(name).excludes(-9, 9) is False
    assert 0.01 < value(found, "output_distance") < 1.0
    assert value(found, "matched_weight_distance") < value(found, "weight_distance")
    fit = found.report.outcomes["A.fit"], found.report.outcomes["B.fit"]
    assert isinstance(fit[0], Measurement)
    assert isinstance(fit[1], Measurement)
    for name in ("r_squared", "rmse", "loss"):
        a, b = (part.estimate(name, split="test").value for part in fit)
        assert value(found, f"{name}_difference") == pytest.approx(b - a, abs=1e-9)


@pytest.mark.parametrize(
    ("outputs", "rows", "loss", "said"),
    [
        (2, 1, "cross_entropy", 4),
        (1, 40, "bce", 4),
        (3, 40, "bce", 4),
        (2, 40, "mse", 3),
        (2, 40, lambda given, wanted: (given - wanted).abs().mean(1).mean(), 3),
    ],
    ids=["one row", "binary", "several labels", "regression", "own loss"],
)
def test_every_task_gets_an_answer(outputs: int, rows: int, loss: Any, said: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(rows, 3, generator=generator)
    y = (torch.randn(rows, outputs, generator=generator) > 0).float()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, outputs))
    subject = Subject(network, test=(x, y.argmax(1) if loss == "cross_entropy" else y), loss=loss)
    found = compare(subject, noisy(subject, 0.3))
    assert [answer.state for answer in found.report.answers] == ["answered"] * said
    assert found.report.failed == ()
    assert "loss or loss" not in found.report.findings[0].headline
    assert "<svg" in found._repr_html_()


def refused(first: Subject, second: Subject, **options: object) -> str:
    with pytest.raises(InputError) as refusal:
        compare(first, second, **options)  # type: ignore[arg-type]
    return str(refusal.value)


def test_refusals_are_one_sentence_each() -> None:
    subject = small_subject()
    assert subject.test is not None
    wide = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))
    other = Subject(wide, test=subject.test)
    assert refused(subject, other) == (
        "other: found a network of another architecture ('0.weight' is of shape [9, 4]); wanted "
        "the architecture of subject ('0.weight' is of shape [8, 4])."
    )
    assert "'1.bias' is absent" in refused(
        Subject(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)), test=subject.test),
        Subject(nn.Sequential(nn.Linear(4, 3)), test=subject.test),
    ).replace("'1.weight'", "'1.bias'")
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(60, 3)
    regression = Subject(subject.module, test=(x, y), loss="mse")
    assert refused(subject, regression) == (
        "other: found the task 'regression'; wanted that of subject, 'classification'."
    )
    moved = Subject(subject.module, test=(x, y[:, 0].long()))
    assert refused(subject, moved).startswith("other: found test data of SHA-256 ")
    alone = Subject(subject.module, train=subject.train)
    assert refused(alone, moved) == (
        "other: found no data that both have; wanted the same test or training data."
    )
    assert "readings: found 'fitt'" in refused(subject, subject, readings=("fitt",))
    huge = copy.deepcopy(subject.module)
    with torch.no_grad():
        huge[2].weight.mul_(1e38).mul_(10)  # type: ignore[index]
    try:
        broken = subject.replaced(huge)
    except InputError:
        return
    assert "not finite" in refused(subject, broken)


def test_neither_network_nor_global_state_changes() -> None:
    subject = small_subject()
    other = noisy(subject, 0.5)
    before = [p.clone() for s in (subject, other) for p in s.module.parameters()]
    state = torch.get_rng_state()
    compare(subject, other, readings=("fit",))
    after = [p for s in (subject, other) for p in s.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


class Nesting(HTMLParser):
    """Checks that every element is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br", "img", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_folder_is_whole_and_can_be_replaced(tmp_path: Path) -> None:
    subject = small_subject()
    found = whynet.compare(subject, noisy(subject, 0.6), names=("<b>one</b>", "two"))
    path = Path(found.save(tmp_path / "out"))
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "comparison.toml", "figures", "other_weights.safetensors", "report.html", "results.zarr",
        "summary.json", "weights.safetensors",
    ]  # fmt: skip
    page = path.read_text(encoding="utf-8")
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert "<b>one" not in page
    assert "&lt;b&gt;one&lt;/b&gt; beside two</bdi></h1>" in page
    assert "whynet verify" not in page
    assert ", examined" not in page
    assert page.count("<svg") >= 6
    summary = json.loads((path.parent / "summary.json").read_text(encoding="utf-8"))
    assert summary["schema_version"] == "1.0"
    assert summary["numbers"]["comparison.churn"]["value"] == value(found, "churn")
    assert "A.fit.accuracy.test" in summary["numbers"]
    found.save(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="with other content"):
        found.save(tmp_path / "out")
