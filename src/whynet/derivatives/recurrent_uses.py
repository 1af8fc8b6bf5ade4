"""Recurrent layers of PyTorch taken apart into the matrices that they apply.

`nn.RNN`, `nn.LSTM` and `nn.GRU` read all their parameters in one function. Here the inputs of all
steps are multiplied at once and the state step by step, by the formulas of PyTorch's documentation;
whoever takes these for the layer's must have held them against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from whynet.derivatives.attention_uses import Linear

State = tuple[Tensor, ...]
"""What is shown of a step, and what else is carried on."""


def _plain(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, State], State]:
    return lambda read, kept, state: (activation(read + kept),)


def _long_short(read: Tensor, kept: Tensor, state: State) -> State:
    take, forget, candidate, show = (read + kept).chunk(4, dim=-1)
    cell = forget.sigmoid() * state[1] + take.sigmoid() * candidate.tanh()
    return show.sigmoid() * cell.tanh(), cell


def _gated(read: Tensor, kept: Tensor, state: State) -> State:
    pairs = zip(read.chunk(3, dim=-1), kept.chunk(3, dim=-1), strict=True)
    (reset, again), (update, keep), (candidate, past) = pairs
    fresh = (candidate + (reset + again).sigmoid() * past).tanh()
    return (fresh + (update + keep).sigmoid() * (state[0] - fresh),)


STEPS: Final[dict[Any, Callable[[Tensor, Tensor, State], State]]] = {
    torch.rnn_tanh: _plain(torch.tanh),
    torch.rnn_relu: _plain(torch.relu),
    torch.lstm: _long_short,
    torch.gru: _gated,
}
"""What functions make of a step: of what is read of input and state, and of the state."""

CELLS: Final[dict[Any, Callable[[Tensor, Tensor, State], State]]] = {
    torch.rnn_tanh_cell: _plain(torch.tanh),
    torch.rnn_relu_cell: _plain(torch.relu),
    torch.lstm_cell: _long_short,
    torch.gru_cell: _gated,
}
"""Likewise of functions that take a single step."""


def recurrent(func: Any, args: Sequence[Any], linear: Linear) -> Tensor | State | None:
    """Call one of `STEPS` or `CELLS` with each matrix by itself.

    Args:
        func: the function.
        args: as PyTorch's modules call it.
        linear: multiplies by the matrices.

    Returns:
        What the function returns; None of packed sequences, projected states and dropout.

    """
    if func in CELLS:
        given, held, first, second, *biases = args
        begun = _state(held)
        one, two = biases or (None, None)
        found = CELLS[func](linear(given, first, one), linear(begun[0], second, two), begun)
        return found if func is torch.lstm_cell else found[0]
    return _layers(func, args, linear)


def _state(held: Tensor | Sequence[Tensor]) -> State:
    return (held,) if isinstance(held, Tensor) else tuple(held)


def _layers(func: Any, args: Sequence[Any], linear: Linear) -> State | None:
    """Run all layers of a function over all steps."""
    if len(args) != 9 or not isinstance(args[3], bool):
        return None  # packed sequences
    given, start, params, biased, layers, dropout, training, both_ways, batch_first = args
    ways = 2 if both_ways else 1
    size = 4 if biased else 2
    if len(params) != layers * ways * size or (dropout and training and layers > 1):
        return None
    begun = _state(start)
    hidden = given.transpose(0, 1) if batch_first else given
    ends: list[State] = []
    for layer in range(layers):
        shown = []
        for way in range(ways):
            place = layer * ways + way
            own = tuple(params[place * size : (place + 1) * size])
            state = tuple(part[place] for part in begun)
            outputs, end = _run(STEPS[func], hidden, state, own, linear, backward=way == 1)
            shown.append(outputs)
            ends.append(end)
        hidden = torch.cat(shown, dim=-1)
    found = hidden.transpose(0, 1) if batch_first else hidden
    return found, *(torch.stack(parts) for parts in zip(*ends, strict=True))


def _run(
    step: Callable[[Tensor, Tensor, State], State],
    given: Tensor,
    state: State,
    params: tuple[Tensor, ...],
    linear: Linear,
    *,
    backward: bool,
) -> tuple[Tensor, State]:
    """Run one layer over the steps `[T, N, features]` in one direction."""
    first, second = params[:2]
    biases: tuple[Tensor | None, ...] = params[2:] or (None, None)
    read = linear(given, first, biases[0]).unbind(0)
    shown = []
    for one in reversed(read) if backward else read:
        state = step(one, linear(state[0], second, biases[1]), state)
        shown.append(state[0])
    return torch.stack(shown[::-1] if backward else shown), state
