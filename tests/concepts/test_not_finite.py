"""What is not finite is named: no instrument makes a finite number of it.

Every instrument of the registry runs on subjects in which something is NaN or infinite, or becomes
so on the way. It may refuse, fail with a reason, or return NaN; a finite number must be the one
that the same subject gives where nothing overflows: in double precision, or beside a twin that
differs in nothing but the poisoned place.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tests.cases import CASES, STEPS
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from whynet.concepts import measuring
from whynet.concepts.measuring import measure
from whynet.concepts.registry import instruments
from whynet.core.errors import InputError
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject

CASE = CASES["relu-mlp"]
BAD = {"NaN": math.nan, "infinity": math.inf, "minus infinity": -math.inf}
MODULES = {name: CASES[name] for name in ("relu-mlp", "batch-norm", "buffers", "convolution")}
TENSORS = [
    (case, name)
    for case, held in MODULES.items()
    for name, tensor in held.build().state_dict().items()
    if tensor.is_floating_point()
]


def data(case: Any = CASE) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        split: tuple(part.clone() for part in getattr(case, split)) for split in ("train", "test")
    }  # type: ignore[misc]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(("case", "name"), TENSORS)
def test_every_parameter_and_buffer_is_named(case: str, name: str, kind: str) -> None:
    module = MODULES[case].build()
    with torch.no_grad():
        module.state_dict()[name].reshape(-1)[-1] = BAD[kind]
    words = rf"^model: found 1 values in '{name}' that are NaN or infinite; wanted finite weights"
    with pytest.raises(InputError, match=words):
        Subject(module, **data(MODULES[case]))
    initial = MODULES[case].initial().state_dict()
    initial[name] = module.state_dict()[name]
    with pytest.raises(InputError, match=rf"^initial: found values in '{name}' that are not"):
        MODULES[case].subject(initial=initial)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("part", ["inputs", "targets", "probabilities", "named inputs"])
def test_every_row_is_named(split: str, part: str, kind: str) -> None:
    given: dict[str, Any] = data(CASES["regression"] if part == "targets" else CASE)
    loss = "mse" if part == "targets" else "cross_entropy"
    x, y = given[split]
    module = CASES["regression" if part == "targets" else "relu-mlp"].build()
    if part == "inputs":
        x[3, 2] = BAD[kind]
    elif part == "targets":
        y[3, 0] = BAD[kind]
    elif part == "probabilities":
        y = functional.one_hot(y, 3).float()
        y[3, 2] = BAD[kind]
    else:
        x[3, 2] = BAD[kind]
        x = {"x": x}
    given[split] = (x, y)
    with pytest.raises(InputError, match=rf"^{split}: found 1 values.* first at \(3, .*finite"):
        Subject(module, loss=loss, **given)


def test_a_mask_of_minus_infinity_is_no_mistake_and_noted() -> None:
    module = CASES["buffers"].build()
    module.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
    subject = Subject(module, **data(CASES["buffers"]))
    assert any("'mask' of 0 and minus infinity" in note for note in subject.notes)
    assert subject.replaced(module).notes
    with_start = Subject(module, initial=module, **data(CASES["buffers"]))
    assert with_start.initial is not None


# ---- what becomes infinite on the way -------------------------------------------------------


def trained(module: nn.Module, inputs: Tensor, targets: Tensor, seed: int = 0) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = module(inputs)
        if outputs.shape[1] == 1:
            functional.mse_loss(outputs, targets).backward()
        else:
            functional.cross_entropy(outputs, targets).backward()
        optimizer.step()


def diverged(module: nn.Module, inputs: Tensor, targets: Tensor, seed: int = 0) -> None:
    for parameter in module.parameters():
        parameter.data.fill_(math.nan)


def exploded(module: nn.Module, inputs: Tensor, targets: Tensor, seed: int = 0) -> None:
    for parameter in module.parameters():
        parameter.data.mul_(1e15)


def subject(
    *,
    case: str = "relu-mlp",
    scale: float = 1.0,
    last: float = 1.0,
    start: float = 1.0,
    row: tuple[str, int, float] | None = None,
    inputs: float = 1.0,
    targets: float = 1.0,
    train: Callable[..., None] = trained,
    dtype: torch.dtype = torch.float32,
) -> Subject:
    """Return a small subject with something in it that is far too large."""
    held = CASES[case]
    module, given = held.build(), data(held)
    initial = held.initial()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
        for parameter in module[-1].parameters():  # type: ignore[index,union-attr,operator]
            parameter.mul_(last)
        for parameter in initial.parameters():
            parameter.mul_(start)
    for x, _ in given.values():
        x.mul_(inputs)
    if targets != 1:
        for _, y in given.values():
            y.mul_(targets)
    if row is not None:
        split, place, factor = row
        given[split][0][place] *= factor
    return Subject(
        module,
        loss=held.loss,
        initial=initial,
        dtype=dtype,
        trainer=Trainer(lambda: copy.deepcopy(held.initial()), train),
        **given,
    )


PLACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: what the subject is made with, and what its sound twin is made with
    "a test row": ({"row": ("test", 20, 1e36), "scale": 30.0},) * 2,
    "a training row": ({"row": ("train", 20, 1e36), "scale": 30.0},) * 2,
    "outputs of 1e30": ({"last": 1e30},) * 2,
    "outputs of 1e37": ({"last": 1e37},) * 2,
    "weights of 1e10": ({"scale": 1e10},) * 2,
    "inputs of 1e30": ({"inputs": 1e30},) * 2,
    "outputs before training of 1e36": ({"start": 1e12},) * 2,
    "outputs before training beyond": ({"start": 1e20},) * 2,
    "targets of 1e25": ({"case": "regression", "targets": 1e25},) * 2,
    "regression outputs of 1e25": ({"case": "regression", "last": 1e25},) * 2,
    "training diverges": ({"train": diverged}, {}),
    "training explodes": ({"train": exploded},) * 2,
}  # type: ignore[dict-item]


@cache
def twin(place: str) -> Subject:
    made, sound = PLACES[place]
    dtype = torch.float64 if made == sound else torch.float32
    return subject(**sound, dtype=dtype)


class Watch(TorchDispatchMode):
    """Notes whether any operation of torch or NumPy gave something that is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            # Forward mode makes tensors that stand for zero and have no memory to look at.
            real = isinstance(tensor, Tensor) and not tensor._is_zerotensor()
            if real and tensor.is_floating_point() and not self.seen:
                with torch.utils._python_dispatch._disable_current_modes():
                    self.seen = not bool(torch.isfinite(tensor).all())
        return out

    def note(self, *_: object) -> None:
        """Take what NumPy reports."""
        self.seen = True


def watched(instrument: str, held: Subject) -> tuple[Measurement | str, bool]:
    """Measure; and say whether anything was not finite on the way."""
    with Watch() as watch, np.errstate(over="call", invalid="call", call=watch.note):
        found = outcome(instrument, held)
    return found, watch.seen


def outcome(instrument: str, held: Subject) -> Measurement | str:
    """Measure; or return what was said instead."""
    try:
        found = measure(instrument, held)
    except Exception as error:  # noqa: BLE001 - a failure is an outcome, its reason is looked at
        return f"{type(error).__name__}: {error}"
    return found.reason if isinstance(found, NotApplicable) else found


def some_pairs() -> list[Any]:
    """Every instrument with every place; a third of the pairs, in turn, in the fast tests."""
    rows = [
        (i, j, one, place) for i, one in enumerate(instruments()) for j, place in enumerate(PLACES)
    ]
    marks = {0: (), 1: (pytest.mark.endurance,), 2: (pytest.mark.endurance,)}
    return [
        pytest.param(one, place, id=f"{one}-{place}", marks=marks[(i + j) % 3])
        for i, j, one, place in rows
    ]


@pytest.mark.filterwarnings("ignore")  # NumPy warns of overflows, which is what they are
@pytest.mark.parametrize(("instrument", "place"), some_pairs())
def test_no_finite_number_comes_of_what_is_not(instrument: str, place: str) -> None:
    try:
        held = subject(**PLACES[place][0])
    except InputError as error:
        assert error.argument in ("model", "train", "test", "initial")
        return
    found, arose = watched(instrument, held)
    if isinstance(found, str):
        assert len(found) > 20, found
        return
    assert [n for n in found.names if np.isfinite(found.values(n)).any()] or all(
        found.dataset[name].attrs.get("missing") for name in found.names
    )
    if not arose:
        return
    sound = outcome(instrument, twin(place))
    assert isinstance(sound, Measurement), f"numbers, where the twin says {sound!r}"
    for name in found.names:
        if (instrument, name) not in COUNTS:
            _check(name, found, sound)


def _check(name: str, found: Measurement, sound: Measurement) -> None:
    """Compare the finite entries of a quantity with the twin's, at the labels both have."""
    if not np.isfinite(found.values(name)).any():
        return
    assert name in sound.names, f"{name} is of the poisoned subject alone"
    parts = [found.dataset[name], *(sound.dataset[name + end] for end in ("", "_low", "_high"))]
    value, other, low, high = (
        np.asarray(part.values, dtype=float) for part in xr.align(*parts, join="inner")
    )
    there = np.isfinite(value)
    if not there.any():
        return
    assert value.shape == other.shape, f"{name} has another shape"
    assert np.isfinite(other[there]).all(), f"{name} is finite where its twin's is not"
    width = np.where(np.isfinite(high - low), high - low, np.inf)
    slack = 0.05 * np.abs(other[there]).max() + 1e-6 + width[there]
    gap = np.abs(value - other)[there]
    assert (gap <= slack).all(), f"{name}: {value[there]} where the twin has {other[there]}"


COUNTS = frozenset({("weight-change", "diverged")})
"""Quantities that count what is not finite, and are other than a twin's by purpose."""


class Careless:
    """An instrument that looks away: comparisons with NaN are false, and count as unsure."""

    INSTRUMENT = Instrument(
        title="t", unit="", needs=(), cost="", cites=(), closed_form="", rounds=1
    )

    def start(self, subject: Subject, seed: int) -> Subject:
        return subject

    def advance(self, state: Subject) -> Subject:
        return state

    def read(self, state: Subject) -> Measurement:
        outputs, _ = state.outputs("test")
        sure = (outputs * 1e20).softmax(1).amax(1) > 0.9
        return Measurement.of({"sure": Quantity(float(sure.double().mean()))})


def test_an_instrument_that_looks_away_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "load_measurer", lambda name: Careless())
    with pytest.raises(AssertionError, match="where the twin has"):
        test_no_finite_number_comes_of_what_is_not("careless", "outputs of 1e30")


@pytest.mark.parametrize("instrument", instruments())
def test_a_row_whose_outputs_overflow_is_named(instrument: str) -> None:
    for split, words in (("test", "test"), ("train", "training")):
        held = subject(row=(split, 20, 1e36), scale=30.0)
        found = outcome(instrument, held)
        assert isinstance(found, str)
        named = rf"InputError: model: found outputs .* 1 of \d+ rows of the {words} data, first on"
        assert re.match(named, found) or "not apply" in found, found
