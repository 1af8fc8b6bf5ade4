"""What a row of the tables of mistakes is, and the words they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tests.cli.own import OWN

TARGET, WEIGHTS, DATA = OWN[:1], OWN[1:3], OWN[3:]


@dataclass(frozen=True)
class Mistake:
    """A command with a mistake in it.

    Attributes:
        name: what is wrong.
        words: the command line.
        argument: name of the argument that the sentence must begin with.
        pattern: regular expression of `found …; wanted …`.
        prepare: makes the files it needs, in the folder of the subject.
        code: the exit code.

    """

    name: str
    words: tuple[str, ...]
    argument: str
    pattern: str
    prepare: Callable[[], object] | None = None
    code: int = 2


def examine(*words: str, target: str = "model.py:build") -> tuple[str, ...]:
    return ("examine", target, *words, "--out", "new/out")


def own(*words: str) -> tuple[str, ...]:
    return examine(*WEIGHTS, *DATA, *words)


def tested(test: str, *words: str) -> tuple[str, ...]:
    return examine(*WEIGHTS, "--test", test, *words)


def write(name: str, text: str) -> Callable[[], object]:
    return lambda: Path(name).write_text(text, encoding="utf-8")


def arrays(x: object, y: object, name: str = "bad.npz") -> Callable[[], object]:
    return lambda: np.savez(name, X=np.asarray(x), y=np.asarray(y))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[], object]:
    def made() -> None:
        state = load_file("end.safetensors")
        change(state)
        save_file(state, "bad.safetensors")

    return made


GOOD_X = np.random.default_rng(1).standard_normal((20, 4)).astype(np.float32)
GOOD_Y = np.arange(20) % 3
NAN_X = np.where(np.arange(80).reshape(20, 4) == 13, np.nan, GOOD_X)
BAD_WEIGHTS = ("--weights", "bad.safetensors", *DATA)
