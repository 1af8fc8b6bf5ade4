"""A subject: a private, checked, frozen copy that leaves the user's network alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import whynet
from whynet.concepts.generalization.instruments import fit
from whynet.concepts.measuring import measure
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.models.preservation import fingerprint, global_state
from whynet.models.subject import Subject

CASE = CASES["relu-mlp"]


def test_it_is_a_copy_in_evaluation_mode() -> None:
    module = CASE.build().train()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before, world = fingerprint(module), global_state()
    subject = Subject(module, train=CASE.train, test=CASE.test, dtype=torch.float64)
    measure("fit", subject)
    assert fingerprint(module) == before
    assert global_state() == world
    assert subject.module is not module
    assert not subject.module.training
    assert subject.module[0].weight.grad is None
    assert subject.dtype == torch.float64
    module[0].weight.data.zero_()
    assert not bool((subject.parameters["0.weight"] == 0).all())


def test_it_is_frozen() -> None:
    subject = CASE.subject()
    for name in ("loss", "module", "batch_size", "anything"):
        with pytest.raises(AttributeError, match=f"frozen: {name} cannot be set"):
            setattr(subject, name, None)


def test_tied_parameters_count_once_and_move_together() -> None:
    subject = CASES["tied-weights"].subject()
    assert "first.weight" in subject.parameters
    assert "second.weight" not in subject.parameters
    assert any("Tied parameters are counted once" in note for note in subject.notes)
    assert subject.facts.parameters == 36 + 6 + 6 + 18 + 3
    inputs = CASE.test[0]
    zeroed = {**subject.parameters, "first.weight": torch.zeros(6, 6)}
    module = CASES["tied-weights"].build()
    with torch.no_grad():
        module.first.weight.zero_()
        wanted = module(inputs)
    torch.testing.assert_close(subject.forward(zeroed, inputs), wanted)


def test_frozen_parameters_and_buffers_are_held() -> None:
    subject = CASES["frozen-parameters"].subject()
    assert set(subject.frozen) == {"0.weight", "0.bias", "4.bias"}
    assert set(subject.parameters) == {"2.weight", "2.bias", "4.weight"}
    assert subject.facts.trainable < subject.facts.parameters
    assert any("are frozen" in note for note in subject.notes)
    assert set(CASES["buffers"].subject().frozen) == {"shift", "scale"}


@pytest.mark.parametrize("batch_size", [1, 7, 20, 47, 48])
def test_the_initial_network_has_its_statistics_recalibrated(batch_size: int) -> None:
    case = CASES["batch-norm"]
    subject = case.subject(initial=case.initial(), batch_size=batch_size)
    initial = subject.initial
    assert initial is not None
    assert "initialization" in subject.tags
    with torch.no_grad():
        hidden = case.initial()[0](case.train[0])
    norm = initial.module[1]
    torch.testing.assert_close(norm.running_mean, hidden.mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(norm.running_var, hidden.var(0), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(norm.running_mean, subject.module[1].running_mean, atol=1e-3)
    assert not norm.training
    assert norm.momentum == 0.1


def test_without_training_data_or_weights_there_is_no_initial_network() -> None:
    case = CASES["batch-norm"]
    assert case.subject(initial=case.initial(), train=None).initial is None
    assert case.subject().initial is None
    one = (case.train[0][:1], case.train[1][:1])
    assert case.subject(initial=case.initial(), train=one).initial is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("0.bias"), "missing"),
        (lambda state: state.update(other=torch.ones(1)), "unexpected"),
        (lambda state: state.update({"0.bias": torch.ones(3)}), "shape"),
        (lambda state: state["0.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_initial_weights_of_another_network_are_refused(change, words: str) -> None:  # type: ignore[no-untyped-def]
    state = {name: value.clone() for name, value in CASE.initial().state_dict().items()}
    change(state)
    with pytest.raises(InputError, match=words) as caught:
        CASE.subject(initial=state)
    assert caught.value.argument == "initial"


class Pair(NamedTuple):
    logits: Tensor
    extra: Tensor


class Several(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.inner = CASE.build()
        self.form = form

    def forward(self, x: Tensor) -> object:
        scores = self.inner(x)
        return {
            "dict": {"logits": scores, "extra": x},
            "tuple": (scores, x),
            "named": Pair(scores, x),
            "single": {"logits": scores},
            "text": "no tensor",
        }[self.form]


@pytest.mark.parametrize(
    ("form", "output"),
    [("dict", "logits"), ("tuple", 0), ("tuple", "0"), ("named", "logits"), ("single", None)],
)
def test_an_entry_of_the_output_can_be_chosen(form: str, output: str | int | None) -> None:
    subject = Subject(Several(form), test=CASE.test, output=output)
    torch.testing.assert_close(subject.outputs("test")[0], CASE.subject().outputs("test")[0])
    assert "piecewise-linear" in subject.tags
    found = measure("segment-pieces", subject)
    assert isinstance(found, Measurement)


@pytest.mark.parametrize(
    ("form", "output", "words"),
    [
        ("dict", None, "returns 2 tensors (logits, extra); wanted the name or position"),
        ("dict", "scores", "found 'scores'; wanted one of ['extra', 'logits']"),
        ("tuple", 2, "found 2; wanted one of ['0', '1']"),
        ("text", None, "an output of type str; wanted a tensor"),
    ],
)
def test_an_unclear_output_is_refused(form: str, output: str | int | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Subject(Several(form), test=CASE.test, output=output)
    assert words in str(caught.value)


def test_tokens_are_no_moving_inputs() -> None:
    subject = CASES["tokens"].subject(dtype=torch.float64)
    assert "float-inputs" not in subject.tags
    inputs, _ = next(subject.batches("test"))
    assert inputs.dtype == torch.int64


def test_half_precision_is_cast_and_said() -> None:
    subject = CASE.subject(test=CASE.test)
    half = Subject(CASE.build().half(), test=CASE.test)
    assert half.dtype == torch.float32
    assert any("Half-precision weights were cast to float32" in note for note in half.notes)
    torch.testing.assert_close(
        half.outputs("test")[0], subject.outputs("test")[0], atol=0.01, rtol=0.01
    )


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.inner(x + torch.randn_like(x))
        return scores


def test_a_stochastic_network_is_not_deterministic() -> None:
    subject = Subject(Noisy(), train=CASE.train, test=CASE.test)
    assert "deterministic" not in subject.tags
    assert any("Two calls on the same input differ" in note for note in subject.notes)
    found = measure("hessian-spectrum", subject)
    assert isinstance(found, NotApplicable)
    assert "differ, even in evaluation mode" in found.reason


def test_a_loader_of_a_stream_gives_the_numbers_of_tensors() -> None:
    class Stream(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(zip(*CASE.test, strict=True))

    loaders = (
        DataLoader(TensorDataset(*CASE.test), batch_size=5),
        DataLoader(Stream(), batch_size=5),
    )
    wanted = measure("fit", Subject(CASE.build(), test=CASE.test))
    assert isinstance(wanted, Measurement)
    for loader in loaders:
        found = measure("fit", Subject(CASE.build(), test=loader))
        assert isinstance(found, Measurement)
        for name in found.names:
            assert found.values(name) == pytest.approx(wanted.values(name), rel=1e-6)


def test_it_can_be_built_from_a_function_and_not_from_a_class() -> None:
    assert Subject(lambda: CASE.build(), test=CASE.test).name == "Sequential"
    for wrong in (nn.Identity, "net.pt", lambda: 3):
        with pytest.raises(InputError, match="Module") as caught:
            Subject(wrong, test=CASE.test)  # type: ignore[arg-type]
        assert caught.value.argument == "model"


@pytest.mark.parametrize("size", [0, -1, True, 2.5])
def test_a_batch_size_is_a_whole_number(size: int) -> None:
    with pytest.raises(InputError, match="a whole number of at least 1"):
        CASE.subject(batch_size=size)


class Boom(RuntimeError):
    pass


def test_nothing_is_left_behind_when_an_instrument_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises after it drew numbers, changed settings and wrote to the subject's world."""
    module = CASE.build()
    before, world = fingerprint(module), global_state()

    def advance(state: object) -> object:
        torch.rand(3)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.backends.mkldnn.enabled = False
        raise Boom("half way")

    monkeypatch.setattr(fit, "advance", advance)
    subject = Subject(module, train=CASE.train, test=CASE.test)
    inside = fingerprint(subject.module)
    with pytest.raises(Boom):
        measure("fit", subject)
    assert global_state() == world
    report = whynet.examine(subject, only=["fit", "calibration"]).report
    assert global_state() == world
    assert fingerprint(module) == before
    assert fingerprint(subject.module) == inside
    assert isinstance(report.outcomes["fit"], Failed)
    assert report.outcomes["fit"].error == "Boom: half way"
    assert isinstance(report.outcomes["calibration"], Measurement)


def test_nothing_is_left_behind_when_construction_fails() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 3)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(5)
            self.count += 1
            torch.set_default_dtype(torch.float64)
            raise Boom("in the forward pass\nsecond line")

    module = Fails()
    before, world = fingerprint(module), global_state()
    with pytest.raises(InputError) as caught:
        Subject(module, test=CASE.test)
    assert "(Boom: in the forward pass)" in str(caught.value)
    assert "second line" not in str(caught.value)
    assert fingerprint(module) == before
    assert global_state() == world


def test_other_precision_and_batch_size_keep_the_rest() -> None:
    subject = CASE.subject(name="mine", initial=CASE.initial())
    wide = subject.in_precision(torch.float64)
    assert (wide.dtype, wide.name, wide.tags) == (torch.float64, "mine", subject.tags)
    assert wide.train is subject.train
    assert subject.in_precision(torch.float32) is subject
    assert subject.replaced(subject.module, batch_size=3).batch_size == 3


def test_facts_say_what_it_is() -> None:
    facts = CASE.subject().facts
    assert facts.architecture == "6–10–6–3 ReLU network"
    assert (facts.classes, facts.train_examples, facts.test_examples) == (3, 48, 32)
    assert facts.input_shape == (6,)
    assert CASES["binary"].subject().facts.classes == 2
    assert CASES["regression"].subject().facts.classes == 0
    for split in ("train", "test"):
        missing = CASE.subject(**{split: None})
        with pytest.raises(InputError, match="no data"):
            missing.examples(split)  # type: ignore[arg-type]
