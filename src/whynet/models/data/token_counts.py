"""Sequences of tokens as tables: how often each token occurs in a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_IDS = ("input_ids", "tokens", "token_ids", "ids")
_BESIDE = ("token_type_ids", "position_ids")
"""Whole numbers beside tokens that are none."""


def tokens_of(inputs: Any) -> tuple[Tensor, Tensor | None] | None:
    """Find the tokens among the inputs of some rows.

    Args:
        inputs: a tensor of whole numbers; or a dict with one such entry beside masks (entries with
            `mask` in their name), as tokenizers of Hugging Face return it.

    Returns:
        Tokens `[rows, positions]`, and which of them count, bool `[rows, positions]` or None where
        all do; None where there are no tokens, or no telling which entry they are.

    """
    if isinstance(inputs, Tensor):
        return (inputs.flatten(1), None) if _whole(inputs) else None
    name = token_entry(inputs)
    if name is None:
        return None
    tokens = inputs[name]
    masks = [v for key, v in inputs.items() if "mask" in key and v.shape == tokens.shape]
    return tokens.flatten(1), (masks[0] != 0).flatten(1) if masks else None


def token_entry(inputs: Any) -> str | None:
    """Return which entry of a dict of inputs holds the tokens; None where there is no telling."""
    if not isinstance(inputs, Mapping):
        return None
    whole = {
        name: value
        for name, value in inputs.items()
        if _whole(value) and "mask" not in name and name not in _BESIDE
    }
    name = next((known for known in _IDS if known in whole), None)
    if name is not None or len(whole) != 1:
        return name
    return str(next(iter(whole)))


def _whole(value: Any) -> bool:
    """Whether a tensor holds whole numbers, at least one a row."""
    kinds = (torch.bool, torch.complex64, torch.complex128)
    if not isinstance(value, Tensor) or value.dtype in kinds:
        return False
    return value.ndim >= 2 and not value.is_floating_point()


def frequent_tokens(tokens: Tensor, counted: Tensor | None, most: int) -> np.ndarray:
    """Return the tokens that occur most often, at most so many, in ascending order."""
    kept = tokens if counted is None else tokens[counted]
    found, times = np.unique(kept.cpu().numpy(), return_counts=True)
    return np.sort(found[np.argsort(-times, kind="stable")[:most]])


def token_counts(tokens: Tensor, counted: Tensor | None, vocabulary: np.ndarray) -> np.ndarray:
    """Count tokens row by row.

    Args:
        tokens: `[rows, positions]`.
        counted: which count, `[rows, positions]`; all by default.
        vocabulary: tokens that have a column, ascending; others are left out.

    Returns:
        Counts, float64 `[rows, vocabulary]`.

    """
    ids = tokens.cpu().numpy()
    place = np.minimum(np.searchsorted(vocabulary, ids), len(vocabulary) - 1)
    known = vocabulary[place] == ids
    if counted is not None:
        known &= counted.cpu().numpy()
    cells = np.arange(len(ids))[:, None] * len(vocabulary) + place
    flat = np.bincount(cells[known], minlength=len(ids) * len(vocabulary))
    return flat.reshape(len(ids), -1).astype(np.float64)
