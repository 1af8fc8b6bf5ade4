"""What counts as right, for labels, probabilities, sequences and binary tasks."""

from __future__ import annotations

import torch

from whynet.models.losses import load_loss
from whynet.models.scores import correct, has_one_label, labels_of

CROSS, BCE = load_loss("cross_entropy"), load_loss("bce")


def test_labels_and_probabilities_agree() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 0])
    chances = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    assert torch.equal(labels_of(chances, outputs, CROSS), labels)
    for targets in (labels, chances):
        assert correct(CROSS, outputs, targets).tolist() == [1.0, 0.0, 1.0]
    assert has_one_label(CROSS, outputs)


def test_binary_logits_with_and_without_an_axis() -> None:
    logits, targets = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    for outputs, wanted in ((logits, targets), (logits[:, None], targets[:, None]),
                            (logits[:, None], targets)):  # fmt: skip
        assert correct(BCE, outputs, wanted).tolist() == [1.0, 0.0, 1.0]
        assert has_one_label(BCE, outputs)
    assert labels_of(torch.tensor([0.7, 0.3]), logits[:2], BCE).tolist() == [1, 0]


def test_sequences_count_scored_positions_and_skip_empty_rows() -> None:
    outputs = torch.zeros(3, 4, 2)
    outputs[..., 1] = 1.0
    targets = torch.tensor([[1, 0, -100, -100], [1, 1, 1, 0], [-100, -100, -100, -100]])
    assert correct(CROSS, outputs, targets).tolist() == [0.5, 0.75]
    assert not has_one_label(CROSS, outputs)


def test_several_binary_labels_are_a_share() -> None:
    outputs = torch.tensor([[1.0, -1.0, 1.0, 1.0]])
    assert correct(BCE, outputs, torch.tensor([[1.0, 0.0, 0.0, 0.0]])).tolist() == [0.5]
    assert not has_one_label(BCE, outputs)
