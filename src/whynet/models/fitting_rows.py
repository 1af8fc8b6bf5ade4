"""Forward passes over rows that fit: out of memory is met by halving the batch, with a note."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

_WORDS = ("can't allocate memory", "out of memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had, on the CPU or a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def release() -> None:
    """Give cached memory of devices back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def row_count(inputs: Any) -> int:
    """Length of the first axis of the first tensor among the inputs; 1 where there is none."""
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return max(1, leaf.shape[0])
    return 1


def cut(tree: Any, rows: int, start: int, stop: int) -> Any:
    """Return some rows of a batch: of every tensor whose first axis has so many rows."""

    def part(leaf: Any) -> Any:
        whole = not (isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == rows)
        return leaf if whole else leaf[start:stop]

    return tree_map(part, tree) if tree_leaves(tree) else tree


def halving_note(largest: int, rows: int) -> str:
    """Return the sentence that says that batches were cut."""
    words = "1 row" if rows == 1 else f"{rows} rows"
    return f"Memory ran out on {largest} rows at once: batches were cut to {words}."


def forwarded(
    network: Callable[[Any], Tensor],
    batches: Iterable[tuple[Any, Any]],
    say: Callable[[str], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs and targets, of whole batches, or of parts of them where memory runs out.

    A batch that does not fit is cut into halves until its parts do, and so are all that follow.
    Rows must not depend on each other, as in evaluation mode.

    Args:
        network: inputs to outputs.
        batches: inputs and targets.
        say: is told once, at the end, that batches were cut.

    Raises:
        MemoryError: one row does not fit.

    """
    fitting: int | None = None
    largest = 0
    for inputs, targets in batches:
        rows, start = row_count(inputs), 0
        while start < rows:
            stop = rows if fitting is None else min(start + fitting, rows)
            own = (inputs, targets) if stop - start == rows else None
            part, wanted = own or tuple(cut(t, rows, start, stop) for t in (inputs, targets))
            try:
                outputs = network(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if stop - start <= 1:
                    words = "Memory ran out on a single row of the data."
                    raise MemoryError(words) from error
                largest = max(largest, stop - start)
                fitting = (stop - start) // 2
            else:
                yield outputs, wanted
                start = stop
                continue
            release()
    if fitting is not None:
        say(halving_note(largest, fitting))
