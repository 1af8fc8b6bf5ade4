"""Normalization layers and parametrized weights."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from tests.derivatives.torch_ops.small import Case, Cases, hidden, layers, of
from torch import nn
from torch.nn.utils import parametrizations


def after(module: nn.Module) -> nn.Module:
    """Evaluation mode, with running statistics that are not trivial."""
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.5 + torch.rand(buffer.shape))
    return module.eval()


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(nn.Linear(4, 4))


def settled(module: nn.Module) -> nn.Module:
    """Let the power iteration of spectral_norm converge, then evaluation mode."""
    with torch.no_grad():
        for _ in range(50):
            module(torch.randn(5, 3))
    return module.eval()


def spectral() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(4, 4))
    )


CASES: Cases = {
    "layer_norm": hidden(lambda: nn.LayerNorm(4)),
    "rms_norm": hidden(lambda: nn.RMSNorm(4)),
    "group_norm": hidden(lambda: nn.GroupNorm(2, 4)),
    "local_response_norm": layers(
        lambda: nn.Conv2d(2, 4, 2), lambda: nn.LocalResponseNorm(2), shape=(3, 2, 4, 4)
    ),
    "batch_norm_train": hidden(lambda: nn.BatchNorm1d(4)),
    "batch_norm_train_notrack": hidden(lambda: nn.BatchNorm1d(4, track_running_stats=False)),
    "batch_norm_eval": lambda: Case(
        after(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))),
        torch.randn(5, 3),
    ),
    "batch_norm2d_train": layers(
        lambda: nn.Conv2d(2, 3, 2), lambda: nn.BatchNorm2d(3), nn.Tanh, shape=(3, 2, 4, 4)
    ),
    "instance_norm": layers(
        lambda: nn.Conv2d(2, 3, 2),
        lambda: nn.InstanceNorm2d(3, affine=True),
        nn.Tanh,
        shape=(3, 2, 4, 4),
    ),
    "instance_norm_track": layers(
        lambda: nn.Conv2d(2, 3, 2),
        lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        nn.Tanh,
        shape=(3, 2, 4, 4),
    ),
    "weight_norm": hidden(lambda: parametrizations.weight_norm(nn.Linear(4, 4))),
    "weight_norm_old": hidden(old_weight_norm),
    "spectral_norm_train": lambda: Case(spectral(), torch.randn(5, 3)),
    "spectral_norm_eval": lambda: Case(settled(spectral()), torch.randn(5, 3)),
    "orthogonal_param": hidden(
        lambda: parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="matrix_exp")
    ),
    "orthogonal_cayley": hidden(
        lambda: parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley")
    ),
    "layer_norm_bias_only": of(lambda m, x: F.layer_norm(x @ m.W, (4,), None, m.b), b=(4,)),
    "normalize": of(lambda m, x: F.normalize(x @ m.W, dim=-1)),
    "renorm": of(lambda m, x: torch.renorm(x @ m.W, 2, 0, 0.5)),
}
