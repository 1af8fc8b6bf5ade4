"""Forward passes where memory runs out: halved batches, the same outputs, and a note."""

from __future__ import annotations

import pytest
import torch
from tests.models.short_of_memory import Hungry, TooLarge
from torch import nn

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.models.fitting_rows import cut, forwarded
from whynet.models.joint_checks import check_outputs
from whynet.models.subject import Subject

ROWS = 300


def data(rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 4, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def network(most: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    return inner if most is None else Hungry(inner, most)


@pytest.mark.parametrize("most", [299, 128, 37, 16])
def test_outputs_are_those_of_whole_batches_and_a_note_says_what_was_done(most: int) -> None:
    held = Subject(network(most), test=data(), batch_size=256)
    outputs, targets = held.outputs("test")
    expected = network()(data()[0]).detach()
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    assert torch.equal(targets, data()[1])
    notes = [note for note in held.notes if "Memory ran out" in note]
    assert len(notes) == (most < 256)
    if notes:
        largest = held.module.largest  # type: ignore[union-attr]
        assert notes[0].startswith("Memory ran out on 256 rows at once: batches were cut to ")
        assert most // 2 < int(notes[0].split()[-2]) == largest <= most
        assert held.facts.notes == held.notes  # and so it stands in the report


def test_an_instrument_measures_the_same_where_memory_is_short() -> None:
    plenty, short = (Subject(network(most), test=data(), batch_size=256) for most in (None, 20))
    found = [measure("fit", subject) for subject in (plenty, short)]
    assert all(isinstance(m, Measurement) for m in found)
    values = [m.estimate("accuracy", split="test").value for m in found]  # type: ignore[union-attr]
    assert values[0] == values[1]
    check_outputs(short, "test")


def test_one_row_that_does_not_fit_is_one_sentence_and_other_errors_pass() -> None:
    held = Subject(network(8), test=data(), batch_size=256)
    held.module.most = 0  # type: ignore[assignment]
    with pytest.raises(MemoryError, match=r"Memory ran out on a single row of the data\."):
        held.outputs("test")

    def broken(_: object) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(forwarded(broken, [data(4)], print))


def test_inputs_by_name_are_cut_along_rows_only() -> None:
    batch = {"ids": torch.arange(12).reshape(6, 2), "scale": torch.ones(3), "kind": "x"}
    part = cut(batch, 6, 2, 4)
    assert part["ids"].tolist() == [[4, 5], [6, 7]]
    assert len(part["scale"]) == 3
    assert part["kind"] == "x"


def test_the_error_is_the_one_that_pytorch_raises() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert any(word in str(caught.value) for word in ("can't allocate memory", "not enough memory"))
    assert "can't allocate memory" in str(TooLarge())
