from __future__ import annotations

import pytest
import torch
from torch import nn

from whynet.core.errors import InputError
from whynet.models.subject import Subject
from whynet.models.threads import WORTH_SHARING, advised_threads, threads


def linear(width: int) -> Subject:
    data = (torch.zeros(8, width), torch.zeros(8, dtype=torch.int64))
    return Subject(nn.Linear(width, width), train=data, batch_size=512)


def test_small_networks_get_one_thread_and_large_ones_what_torch_has() -> None:
    # A linear layer takes 2 w^2 operations a row.
    border = (WORTH_SHARING / 512 / 2) ** 0.5
    with threads(2):
        assert advised_threads(linear(int(0.9 * border))) == 1
        assert advised_threads(linear(int(1.1 * border))) == 2


def test_networks_that_cannot_be_counted_get_what_torch_has() -> None:
    class Refusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if torch.utils._python_dispatch._len_torch_dispatch_stack() > 0:
                raise RuntimeError("no modes here")
            return self.layer(inputs)

    subject = Subject(Refusing(), train=(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)))
    with threads(2):
        assert advised_threads(subject) == 2


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"--threads: found 0; wanted"), threads(0):
        pass
