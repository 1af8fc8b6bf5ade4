"""What is unusual and no mistake: it is taken, and what was done about it is said."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cases import CASES
from tests.cli.numbered import STATED
from tests.cli.own import EXAMINE, copy_subject
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.examination.examine import examine
from whynet.models.subject import Subject

CASE = CASES["relu-mlp"]
RUN = Path(sysconfig.get_path("scripts"), "whynet")


class With(nn.Module):
    """A network of the case whose forward pass is a function of its body and the rows."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = CASE.build()
        self.run = run
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def held(module: nn.Module | None = None, **options: Any) -> Subject:
    given: dict[str, Any] = {"train": CASE.train, "test": CASE.test}
    return Subject(module or CASE.build(), **{**given, **options})


def forward(run: Callable[[Any, Tensor], Tensor]) -> Callable[[], Subject]:
    return lambda: held(With(run))


def frozen(count: int) -> Subject:
    module = CASE.build()
    for parameter in list(module.parameters())[:count]:
        parameter.requires_grad_(False)
    return held(module)


def mixed() -> Subject:
    module = CASE.build()
    module[0].double()  # type: ignore[index]
    return held(module)


def counted(net: Any, x: Tensor) -> Tensor:
    net.calls += 1
    return net.body(x) + net.calls  # type: ignore[no-any-return]


def branched(net: Any, x: Tensor) -> Tensor:
    scores = net.body(x)
    return scores if bool((x.sum() > 0).item()) else 2 * scores


def in_place(net: Any, x: Tensor) -> Tensor:
    x.mul_(1.0)
    return net.body(x)  # type: ignore[no-any-return]


def needed(net: Any, x: Tensor) -> Tensor:
    hidden = torch.sigmoid(net.body(x))
    squares = hidden**2
    hidden.add_(1)
    return squares + hidden


def hooked() -> Subject:
    module = CASE.build()
    module.register_forward_hook(lambda *_: None)
    return held(module)


def collinear() -> Subject:
    data = {}
    for split, (x, y) in (("train", CASE.train), ("test", CASE.test)):
        x = x.clone()  # type: ignore[union-attr]
        x[:, 1], x[:, 2] = 3.0, 2 * x[:, 0]
        data[split] = (x, y)
    return held(**data)


def shuffled() -> Subject:
    return held(train=DataLoader(TensorDataset(*CASE.train), batch_size=5, shuffle=True))  # type: ignore[arg-type]


def of_bytes() -> Subject:
    x = (CASE.train[0] * 10 + 50).clamp(0, 255).to(torch.uint8)  # type: ignore[operator]
    return held(train=(x, CASE.train[1]), test=None)


def large_numbers() -> Subject:
    x = np.zeros((9, 6), dtype=np.int64) + 2**60
    return held(train=(x.astype(np.float64), np.arange(9) % 3), test=None)


Row = tuple[Callable[[], Subject], str, str]
"""What makes the subject, which instrument measures it, and what is said (or `measured`)."""

ROWS: dict[str, Row] = {
    "no parameters": (lambda: held(nn.Identity()), "hessian-spectrum", "no parameter is trainable"),
    "all frozen": (lambda: frozen(6), "hessian-spectrum", "no parameter is trainable"),
    "some frozen": (lambda: frozen(2), "fit", "2 of 6 parameter tensors are frozen"),
    "tied": (CASES["tied-weights"].subject, "fit", "Tied parameters are counted once"),
    "half precision": (lambda: held(CASE.build().bfloat16()), "fit", "were cast to float32"),
    "mixed precision": (mixed, "fit", "mixed precision were cast to float64"),
    "detached": (forward(lambda n, x: n.body(x).detach()), "hessian-spectrum", "detach|gradient"),
    "a step": (forward(lambda n, x: n.body(x).sign()), "hessian-spectrum", "zero|measured"),
    "in place on the input": (forward(in_place), "fit", "measured"),
    "in place on a needed tensor": (forward(needed), "hessian-spectrum", "modified by an inplace"),
    "dropout": (CASES["dropout"].subject, "fit", "measured"),
    "batch normalization": (CASES["batch-norm"].subject, "fit", "measured"),
    "random forward pass": (
        forward(lambda n, x: n.body(x) + torch.randn(())), "hessian-spectrum", "Two calls",
    ),
    "counts its calls": (forward(counted), "hessian-spectrum", "Two calls"),
    "a branch on the data": (forward(branched), "hessian-spectrum", "measured"),
    "not piecewise linear": (CASES["tanh-mlp"].subject, "segment-pieces", "Tanh"),
    "hooks": (hooked, "fit", "Forward hooks were found and kept"),
    "one row": (
        lambda: held(test=(CASE.test[0][:1], CASE.test[1][:1])), "fit", "measured",  # type: ignore[index]
    ),
    "shuffled loader": (shuffled, "fit", "The loader shuffles; its rows are read in the order"),
    "bytes": (of_bytes, "fit", "8-bit numbers, cast to float as they are, not divided by 255"),
    "constant and collinear features": (collinear, "baselines", "measured"),
    "numbers above 2^53": (large_numbers, "fit", "measured"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # NumPy and torch warn of what the networks do
@pytest.mark.parametrize("name", ROWS)
def test_it_is_taken_and_said(name: str) -> None:
    make, instrument, words = ROWS[name]
    subject = make()
    outcome = measure(instrument, subject)
    said = [*subject.notes]
    if isinstance(outcome, Measurement):
        said += [*outcome.notes, "measured"]
    else:
        said.append(outcome.reason)
    assert any(word in text for word in words.split("|") for text in said), said


def test_every_name_has_its_row() -> None:
    assert {*STATED.values()} == {*ROWS, "a running loop"}


def test_a_running_loop_does_no_harm() -> None:
    async def cell() -> Any:
        return examine(held(), only=("fit",), seeds=0)

    assert asyncio.run(cell()).rounds == {"fit": 1}


def test_eval_mode_leaves_dropout_and_batch_normalization_out() -> None:
    for name in ("dropout", "batch-norm"):
        module = CASES[name].build().train()
        subject = held(module)
        assert "deterministic" in subject.tags
        assert not subject.module.training
        assert module.training


@pytest.mark.parametrize("surroundings", ["no home", "no terminal and C", "read-only cache"])
def test_bare_surroundings(made: Path, tmp_path: Path, surroundings: str) -> None:
    copy_subject(made, tmp_path)
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    changed = {
        "no home": {},
        "no terminal and C": {"TERM": "", "LANG": "C", "LC_ALL": "C", "HOME": str(tmp_path)},
        "read-only cache": {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"},
    }[surroundings]
    ran = subprocess.run(
        [sys.executable, "-P", RUN, *EXAMINE],
        cwd=tmp_path,
        env={**kept, **changed, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out/report.html").is_file()
    assert b"\x1b" not in ran.stdout + ran.stderr
