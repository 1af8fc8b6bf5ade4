"""Activations and losses, each on a network small enough for differences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.derivatives.torch_ops.small import Case, Cases, hidden, of, scored
from torch import nn


def classes() -> torch.Tensor:
    return torch.tensor([0, 3, 1, 2, 1])


def signs() -> torch.Tensor:
    return torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])


def shares() -> torch.Tensor:
    return torch.rand(5, 4)


PLAIN = (
    *("GELU", "SiLU", "Mish", "ELU", "SELU", "CELU", "Softplus", "Softsign", "LogSigmoid"),
    *("Hardswish", "Hardsigmoid", "Hardtanh", "Hardshrink", "Softshrink", "LeakyReLU", "ReLU6"),
    *("PReLU", "Tanhshrink"),
)

CASES: Cases = {
    "linear+tanh": hidden(nn.Tanh),
    "relu": hidden(nn.ReLU),
    "relu_inplace": hidden(lambda: nn.ReLU(inplace=True)),
    **{name: hidden(getattr(nn, name)) for name in PLAIN},
    "gelu_tanh": hidden(lambda: nn.GELU(approximate="tanh")),
    "GLU": hidden(nn.GLU, 8, 4),
    "RReLU_train": hidden(nn.RReLU),
    "softmax": of(lambda m, x: F.softmax(x @ m.W, -1)),
    "logsumexp": of(lambda m, x: torch.logsumexp(x @ m.W, -1)),
    "cross_entropy": scored(lambda o, t: F.cross_entropy(o, t, reduction="sum"), classes),
    "ce_label_smooth": scored(
        lambda o, t: F.cross_entropy(o, t, reduction="sum", label_smoothing=0.1), classes
    ),
    "bce_logits": scored(
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, reduction="sum"), shares
    ),
    "bce": scored(lambda o, t: F.binary_cross_entropy(o.sigmoid(), t, reduction="sum"), shares),
    "huber": scored(lambda o, t: F.huber_loss(2 * o, t, reduction="sum"), shares),
    "smooth_l1": scored(lambda o, t: F.smooth_l1_loss(2 * o, t, reduction="sum"), shares),
    "kl_div": scored(
        lambda o, t: F.kl_div(F.log_softmax(o, -1), F.softmax(t, -1), reduction="sum"), shares
    ),
    "nll": scored(lambda o, t: F.nll_loss(F.log_softmax(o, -1), t, reduction="sum"), classes),
    "multi_margin": scored(lambda o, t: F.multi_margin_loss(o, t, p=2, reduction="sum"), classes),
    "multilabel_margin": scored(
        lambda o, t: F.multilabel_margin_loss(o.square(), t, reduction="sum"),
        lambda: torch.tensor([[0, 2, -1, 0]] * 5),
    ),
    "ctc_loss": lambda: Case(
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5)),
        torch.randn(6, 2, 3),
        torch.tensor([[1, 2, 3], [4, 2, 2]]),
        lambda o, t: F.ctc_loss(
            F.log_softmax(o, -1),
            t,
            torch.full((2,), 6),
            torch.tensor([3, 2]),
            reduction="sum",
        ),
    ),
    "gaussian_nll": scored(
        lambda o, t: F.gaussian_nll_loss(o[:, :2], t[:, :2], o[:, 2:].exp(), reduction="sum"),
        shares,
    ),
    "poisson_nll": scored(lambda o, t: F.poisson_nll_loss(o, t, reduction="sum"), shares),
    "cosine_sim": scored(lambda o, t: (1 - F.cosine_similarity(o, t)).sum(), shares),
    "triplet": scored(
        lambda o, t: F.triplet_margin_loss(
            o, t, o.roll(1, 0).square(), margin=9.0, reduction="sum"
        ),
        shares,
    ),
}
