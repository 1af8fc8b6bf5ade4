"""Convolutions, pooling, resampling, padding."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from tests.derivatives.torch_ops.small import Cases, layers, of
from torch import nn

IMAGE = (2, 2, 6, 6)


def pooled(function: object, kind: type[nn.Module] = nn.Conv2d) -> object:
    """A case: a convolution, tanh, then the function."""
    shape = {nn.Conv1d: (2, 2, 8), nn.Conv2d: IMAGE, nn.Conv3d: (2, 2, 5, 5, 5)}[kind]
    make = partial(kind, 2, 3, 2)
    return of(lambda m, x: function(m.conv(x).tanh()), *shape, conv=make, W=(1,))


def unpool(h: torch.Tensor) -> torch.Tensor:
    value, where = F.max_pool2d(h[..., :4, :4], 2, return_indices=True)
    return F.max_unpool2d(value, where, 2)


def grid(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    theta = 0.3 * m.W.expand(len(x), 2, 3)
    return F.affine_grid(theta, list(x.shape), align_corners=False)


CASES: Cases = {
    "conv1d": layers(lambda: nn.Conv1d(2, 3, 3), nn.Tanh, shape=(2, 2, 7)),
    "conv2d": layers(lambda: nn.Conv2d(2, 3, 3), nn.Tanh, shape=IMAGE),
    "conv2d_circular": layers(
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Tanh, shape=IMAGE
    ),
    "conv2d_reflect": layers(
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.Tanh, shape=IMAGE
    ),
    "conv2d_groups_dil": layers(
        lambda: nn.Conv2d(2, 4, 2, groups=2, dilation=2), nn.Tanh, shape=IMAGE
    ),
    "conv3d": layers(lambda: nn.Conv3d(1, 2, 2), nn.Tanh, shape=(2, 1, 3, 3, 3)),
    "conv_transpose2d": layers(
        lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh, shape=(2, 2, 3, 3)
    ),
    "max_pool1d": pooled(lambda h: F.max_pool1d(h, 2), nn.Conv1d),
    "max_pool2d": pooled(lambda h: F.max_pool2d(h, 2)),
    "max_pool2d_indices": pooled(lambda h: F.max_pool2d(h, 2, return_indices=True)[0]),
    "max_pool3d": pooled(lambda h: F.max_pool3d(h, 2), nn.Conv3d),
    "avg_pool2d": pooled(lambda h: F.avg_pool2d(h, 2)),
    "avg_pool3d": pooled(lambda h: F.avg_pool3d(h, 2), nn.Conv3d),
    "lp_pool2d": pooled(lambda h: F.lp_pool2d(h.square() + 0.1, 2.0, 2)),
    "adaptive_avg2d": pooled(lambda h: F.adaptive_avg_pool2d(h, 2)),
    "adaptive_max2d": pooled(lambda h: F.adaptive_max_pool2d(h, 2)),
    "adaptive_max1d": pooled(lambda h: F.adaptive_max_pool1d(h, 2), nn.Conv1d),
    "adaptive_avg3d": pooled(lambda h: F.adaptive_avg_pool3d(h, 2), nn.Conv3d),
    "fractional_max2d": pooled(lambda h: F.fractional_max_pool2d(h, 2, output_size=3)),
    "max_unpool2d": pooled(unpool),
    **{
        f"interpolate_{mode}": pooled(partial(F.interpolate, scale_factor=1.7, mode=mode))
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    },
    "interpolate_antialias": pooled(
        partial(F.interpolate, scale_factor=0.6, mode="bilinear", antialias=True)
    ),
    "interpolate_linear1d": pooled(
        partial(F.interpolate, scale_factor=1.7, mode="linear"), nn.Conv1d
    ),
    "interpolate_trilinear": pooled(
        partial(F.interpolate, scale_factor=1.7, mode="trilinear"), nn.Conv3d
    ),
    "grid_sample": of(
        lambda m, x: F.grid_sample(x, grid(m, x), mode="bilinear", align_corners=False),
        *(2, 2, 5, 5),
        W=(2, 3),
    ),
    "affine_grid": of(lambda m, x: grid(m, x), *(2, 2, 3, 3), W=(2, 3)),
    "pixel_shuffle": layers(
        lambda: nn.Conv2d(2, 4, 2), nn.Tanh, lambda: nn.PixelShuffle(2), shape=(2, 2, 4, 4)
    ),
    "unfold_fold": of(
        lambda m, x: F.fold(F.unfold(x, 2) * m.W[:, None], (4, 4), 2), *(2, 2, 4, 4), W=(8,)
    ),
    "pad_replicate": pooled(lambda h: F.pad(h, (1, 1, 1, 1), mode="replicate")),
}
