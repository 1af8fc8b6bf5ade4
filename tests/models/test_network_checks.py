"""Networks on which nothing can be measured are refused in one sentence, and left alone."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject

CASE = CASES["relu-mlp"]


def with_nan() -> nn.Module:
    module = CASE.build()
    with torch.no_grad():
        module[0].weight[1, :2] = torch.tensor([torch.nan, torch.inf])
    return module


def quantized() -> nn.Module:
    module = nn.Linear(6, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.register_buffer(
            "packed", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        )
    return module


class Undeepcopyable(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("holds a lock")


class Complexity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 3, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.weight.dtype) @ self.weight).real


class Edits(nn.Module):
    """Normalizes its weight in place at every call, as `Embedding` with `max_norm` does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.inner.weight.mul_(0.9)
        scores: Tensor = self.inner(x)
        return scores


class Gives(nn.Module):
    """Makes something of the scores of a linear layer."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.inner(x)
        return {
            "mean": scores.mean(),
            "first": scores[:1],
            "labels": scores.argmax(1),
            "nan": scores * torch.nan,
        }[self.what]


class WithEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3, max_norm=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens).sum(1)


REFUSED = {
    "NaN weights": (with_nan, "2 values in '0.weight' that are NaN or infinite"),
    "lazy": (lambda: nn.LazyLinear(3), "the lazy parameter 'weight', not yet initialized"),
    "quantized": (quantized, "'packed' of dtype torch.qint8"),
    "complex": (Complexity, "'weight' of dtype torch.complex64"),
    "meta": (lambda: nn.Linear(6, 3, device="meta"), "'weight' on the meta device"),
    "deep copy": (lambda: Undeepcopyable(6, 3), "cannot be deep-copied (TypeError: holds a lock)"),
    "edits": (Edits, "a forward pass that edits its parameter 'inner.weight'"),
    "mean": (lambda: Gives("mean"), "an output of shape () for 8 rows"),
    "first": (lambda: Gives("first"), "an output of shape (1, 3) for 8 rows"),
    "labels": (lambda: Gives("labels"), "an output of dtype torch.int64"),
    "nan": (lambda: Gives("nan"), "outputs that are NaN or infinite"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    make, words = REFUSED[name]
    module = make()
    own = name not in ("lazy", "meta", "quantized")
    before = fingerprint(module) if own else {}
    with pytest.raises(InputError) as caught:
        Subject(module, train=CASE.train, test=CASE.test)
    assert words in str(caught.value)
    assert str(caught.value).startswith("model: found ")
    assert not own or fingerprint(module) == before


def test_an_embedding_with_a_bound_is_refused_and_left_alone() -> None:
    module = WithEmbedding()
    before = fingerprint(module)
    with pytest.raises(InputError, match=r"edits its parameter 'embed\.weight'"):
        Subject(module, test=CASES["tokens"].test)
    assert fingerprint(module) == before


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_wrappers_are_removed_and_named() -> None:
    inner = CASE.build()
    subject = Subject(nn.DataParallel(inner), test=CASE.test)
    assert any("parallel wrapper was removed" in note for note in subject.notes)
    torch.testing.assert_close(subject.outputs("test")[0], CASE.subject().outputs("test")[0])
    compiled = torch.compile(inner)
    subject = Subject(compiled, test=CASE.test)
    assert any("compiled network was unwrapped" in note for note in subject.notes)
    assert type(subject.module) is nn.Sequential


def test_mixed_precision_is_cast_up_and_said() -> None:
    module = CASE.build()
    module[4].double()
    module[2].double()
    subject = Subject(module, test=CASE.test)
    assert subject.dtype == torch.float64
    assert any("mixed precision were cast to float64" in note for note in subject.notes)


def test_hooks_are_kept_and_named() -> None:
    module = CASE.build()
    module[0].register_forward_hook(lambda layer, given, out: out * 2)
    subject = Subject(module, test=CASE.test)
    assert any("Forward hooks were found and kept (at 0)" in note for note in subject.notes)
    with torch.no_grad():
        torch.testing.assert_close(subject.outputs("test")[0], module(CASE.test[0]))


def test_a_network_without_parameters_has_nothing_to_train() -> None:
    subject = Subject(nn.Flatten(), test=(CASE.test[0], CASE.test[1]))
    assert "trainable" not in subject.tags
    assert subject.dtype == torch.float32


def test_rows_of_another_width_name_the_split_and_the_layer() -> None:
    words = r"^train: found rows of shape \[6\] \(.*first layer \(Linear\) takes 5 features\.$"
    with pytest.raises(InputError, match=words):
        Subject(nn.Linear(5, 3), train=CASE.train, test=CASE.test)
    narrow = (CASE.test[0][:, :5], CASE.test[1])  # type: ignore[index]
    with pytest.raises(InputError, match=r"^test: found rows of shape \[5\] .* takes 6 features"):
        Subject(CASE.build(), train=CASE.train, test=narrow)
    inner = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(InputError, match=r"layer '2' \(Linear\) takes 5 features"):
        Subject(inner, train=CASE.train)
