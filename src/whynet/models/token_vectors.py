"""The vectors of tokens: what can be moved a little where inputs themselves cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.models.data.token_counts import token_entry, tokens_of

if TYPE_CHECKING:
    from whynet.models.subject import Subject

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TokenVectors:
    """The embedding that reads the tokens of a subject's inputs.

    Attributes:
        layer: in the subject's network, its outputs are the vectors.

    """

    layer: nn.Embedding

    @property
    def table(self) -> Tensor:
        """Vectors of all tokens, `[tokens, features]`, detached."""
        return self.layer.weight.detach()

    def of(self, subject: Subject, inputs: Any) -> tuple[Tensor, Forward]:
        """Return the vectors of a batch, and the network's outputs as a function of them.

        Args:
            subject: whose embedding it is; it is not changed.
            inputs: a batch; what is in it beside the tokens stays as it is.

        Returns:
            Vectors `[rows, ..., features]`, detached, and the function. It ignores what vectors
            of tokens are that a mask leaves out.

        """
        found = tokens_of(inputs)
        assert found is not None
        _, counted = found
        tokens = _tokens(inputs)
        with torch.no_grad():
            held = self.layer(tokens)

        def forward(vectors: Tensor) -> Tensor:
            if counted is not None:
                kept = counted.reshape(*tokens.shape, 1).to(vectors.device)
                vectors = torch.where(kept, vectors, held)

            def replace(layer: nn.Module, given: tuple[Tensor], leaving: Tensor) -> Tensor:
                return vectors.to(leaving.dtype)

            hook = self.layer.register_forward_hook(replace)
            try:
                return subject.forward(subject.parameters, inputs)
            finally:
                hook.remove()

        return held, forward


_FOUND: WeakKeyDictionary[Subject, TokenVectors | NotApplicable] = WeakKeyDictionary()


def token_vectors(subject: Subject) -> TokenVectors | NotApplicable:
    """Find the embedding that reads the tokens of a subject, by watching it read a row; once.

    Returns:
        The vectors; or why there are none: inputs are no tokens, or no `nn.Embedding` reads them
        once and as they are.

    """
    if subject not in _FOUND:
        _FOUND[subject] = _watched(subject)
    return _FOUND[subject]


def _watched(subject: Subject) -> TokenVectors | NotApplicable:
    inputs, _ = subject.examples(subject.any_split).take(
        [0], device=subject.device, dtype=subject.dtype
    )
    if tokens_of(inputs) is None:
        return NotApplicable("This does not apply: the inputs are no tokens.")
    tokens = _tokens(inputs)
    layers = [part for part in subject.module.modules() if isinstance(part, nn.Embedding)]
    readers: list[nn.Embedding] = []

    def note(layer: nn.Embedding, given: tuple[Tensor, ...], leaving: Tensor) -> None:
        if given and given[0].shape == tokens.shape and torch.equal(given[0], tokens):
            readers.append(layer)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            subject.forward(subject.parameters, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if len(readers) != 1:
        times = "is read by none" if not readers else f"is read by {len(readers)}"
        return NotApplicable(
            f"This does not apply: each token {times} of the network's embedding layers, and must "
            "be by one."
        )
    return TokenVectors(readers[0])


def _tokens(inputs: Any) -> Tensor:
    """Return the tokens in their own shape."""
    entry = token_entry(inputs)
    found: Tensor = inputs if entry is None else inputs[entry]
    return found


def movable(subject: Subject, inputs: Any) -> tuple[Tensor, Forward]:
    """Return what of a batch can be moved a little, and the network as a function of it.

    Args:
        subject: of real inputs, or of tokens that an embedding reads.
        inputs: a batch.

    """
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs.detach(), lambda moved: subject.forward(subject.parameters, moved)
    found = token_vectors(subject)
    assert isinstance(found, TokenVectors)
    return found.of(subject, inputs)


def with_tokens(inputs: Any, tokens: Tensor) -> Any:
    """Return inputs with other tokens, `[rows, positions]`."""
    entry = token_entry(inputs)
    if entry is None:
        return tokens.reshape(inputs.shape)
    assert isinstance(inputs, Mapping)
    return {**inputs, entry: tokens.reshape(inputs[entry].shape)}
