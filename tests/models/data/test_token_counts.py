"""Tokens found among inputs, and counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from whynet.models.data.token_counts import frequent_tokens, token_counts, tokens_of

IDS = torch.randint(3, 40, (30, 12), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(12) < torch.arange(30)[:, None] % 12 + 1


def test_counts_are_those_of_a_counter() -> None:
    for mask in (None, MASK):
        kept = [row if mask is None else row[on] for row, on in zip(IDS, MASK, strict=True)]
        vocabulary = frequent_tokens(IDS, mask, 9)
        times = Counter(torch.cat(kept).tolist())
        assert len(vocabulary) == 9 and (np.diff(vocabulary) > 0).all()
        rarest = min(times[int(token)] for token in vocabulary)
        left = [count for token, count in times.items() if token not in vocabulary]
        assert max(left) <= rarest
        counts = token_counts(IDS, mask, vocabulary)
        for row, found in zip(kept, counts, strict=True):
            own = Counter(row.tolist())
            assert found.tolist() == [own[int(token)] for token in vocabulary]


def test_tokens_that_were_never_seen_have_no_column() -> None:
    vocabulary = np.array([5, 8])
    rows = torch.tensor([[5, 5, 9], [0, 8, 100]])
    assert token_counts(rows, None, vocabulary).tolist() == [[2, 0], [0, 1]]


def test_tokens_are_found_beside_their_mask() -> None:
    inputs = {"input_ids": IDS, "attention_mask": MASK.long(), "token_type_ids": 0 * IDS}
    found = tokens_of(inputs)
    assert found is not None and torch.equal(found[0], IDS)
    assert found[1] is not None and torch.equal(found[1], MASK)
    alone = tokens_of(IDS)
    assert alone is not None and torch.equal(alone[0], IDS) and alone[1] is None


@pytest.mark.parametrize(
    "inputs",
    [
        IDS.float(),
        IDS[:, 0],
        {"left": IDS, "right": IDS},
        {"values": IDS.float()},
        {"mask": MASK},
        (IDS, MASK),
    ],
)
def test_other_inputs_hold_no_tokens(inputs: object) -> None:
    assert tokens_of(inputs) is None
