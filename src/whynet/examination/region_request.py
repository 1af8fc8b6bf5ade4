"""From what a command line says to a plane or a line in a subject's input space."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from whynet.concepts.regions.boxes import MOST_INPUTS
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.subdivision import PlaneRegions, subdivide
from whynet.core.errors import InputError
from whynet.models.load.weights import load_weights
from whynet.models.subject import Subject


def parse_rows(text: str, count: int, argument: str) -> tuple[int, ...]:
    """Read row numbers such as `3,14,15`.

    Raises:
        InputError: they are not `count` different whole numbers.

    """
    wanted = f"{count} different rows of the data, such as {','.join('31415'[:count])}"
    try:
        rows = tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(argument, repr(text[:60]), wanted) from error
    if len(rows) != count or len(set(rows)) < count or min(rows) < 0:
        raise InputError(argument, repr(text[:60]), wanted)
    return rows


def parse_box(text: str, argument: str = "--box") -> tuple[float, float]:
    """Read the ends of a square such as `-1,1`.

    Raises:
        InputError: they are not two finite numbers in ascending order.

    """
    wanted = "two finite numbers in ascending order, such as --box=-1,1"
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(argument, repr(text[:60]), wanted) from error
    if not -float("inf") < low < high < float("inf"):
        raise InputError(argument, repr(text[:60]), wanted)
    return low, high


def rows_of(subject: Subject, rows: tuple[int, ...], argument: str) -> Tensor:
    """Return rows of the test data, else of the training data: float64 [N, *input_shape].

    Raises:
        InputError: a row is not there, or the data are no numbers.

    """
    split = subject.any_split
    examples = subject.examples(split)
    if max(rows) >= examples.count:
        raise InputError(
            argument,
            f"row {max(rows)}",
            f"rows of the {split} data, from 0 to {examples.count - 1}",
        )
    inputs, _ = examples.take(rows, dtype=torch.float64)
    if not isinstance(inputs, Tensor):
        raise InputError(argument, "data of several inputs", "data with one array of inputs")
    return inputs


def row_labels(subject: Subject, rows: tuple[int, ...]) -> tuple[str, ...]:
    """Return how rows are called in a figure: number and, where it is one, the label."""
    _, targets = subject.examples(subject.any_split).take(rows)
    whole = targets.dim() == 1 and not targets.is_floating_point()
    return tuple(
        f"row {row} (class {int(target)})" if whole else f"row {row}"
        for row, target in zip(rows, targets, strict=True)
    )


def box_of(subject: Subject, low: float, high: float) -> Plane | tuple[Tensor, Tensor]:
    """Return the square of a network with two inputs; of others, the ends of the box.

    Raises:
        InputError: it has too many inputs for all cells to be found.

    """
    shape = tuple(rows_of(subject, (0,), "--box").shape[1:])
    if shape == (2,):
        return Plane.box(low, high)
    if math.prod(shape) > MOST_INPUTS:
        raise InputError(
            "--box",
            f"a network with inputs of shape {list(shape)}",
            f"one with at most {MOST_INPUTS} inputs; of others, --through i,j,k cuts a plane",
        )
    return torch.full(shape, low).double(), torch.full(shape, high).double()


def workers() -> int:
    """Return how many processes may share a search: as many as PyTorch has threads."""
    return torch.get_num_threads()


_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def weight_files(paths: Sequence[str], argument: str = "--checkpoints") -> list[str]:
    """Return files of weights; of a folder those in it, numbers in their names by size.

    Raises:
        InputError: a folder holds none.

    """
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        held = [one for one in Path(path).iterdir() if one.suffix in _WEIGHTS and one.is_file()]
        if not held:
            wanted = f"files of weights, such as step-100{_WEIGHTS[0]}"
            raise InputError(argument, f"the folder {path!r} without weights", wanted)
        found += map(str, sorted(held, key=lambda one: (_numbered(one.stem), one.name)))
    return found


def _numbered(name: str) -> list[tuple[int, str]]:
    """Return a key by which step-9 stands before step-10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d{1,18})", name)
    ]


def at_checkpoints(
    subject: Subject, paths: Sequence[str], plane: Plane, max_cells: int
) -> list[tuple[str, PlaneRegions]]:
    """Cut one plane by the network with the weights of each file, in their order.

    Args:
        subject: the network.
        paths: files of weights, or folders of them.
        plane: the polygon.
        max_cells: cells above which a subdivision stops.

    Returns:
        Name of each file without suffix, and its cells. After an interruption, those until then.

    Raises:
        InputError: a file does not fit the network.

    """
    frames: list[tuple[str, PlaneRegions]] = []
    for path in weight_files(paths):
        module = copy.deepcopy(subject.module)
        load_weights(path, module, "--checkpoints")
        found = subdivide(subject.replaced(module), plane, max_cells=max_cells)
        assert isinstance(found, PlaneRegions)  # as for the first weights of the same network
        frames.append((Path(path).stem, found))
        if found.interrupted:
            break
    return frames


@contextmanager
def called(argument: str) -> Iterator[None]:
    """Call what is refused about a plane in the body as the command line does."""
    try:
        yield
    except InputError as error:
        if error.argument not in ("origin", "axes", "polygon", "marks", "points", "plane"):
            raise
        found = error.found if error.argument in ("points", "plane") else (
            f"{error.found} (its {error.argument})")  # fmt: skip
        raise InputError(argument, found, error.wanted) from error
