"""Small convolutional networks: convolution, ReLU and pooling, then one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from whynet.core.errors import InputError
from whynet.core.family import Family


def build(
    image: tuple[int, int, int],
    channels: Sequence[int],
    outputs: int,
    *,
    batch_norm: bool = False,
    parametrization: str = "standard",
) -> nn.Sequential:
    """Return a convolutional network with fresh weights.

    Each stage is a 3 × 3 convolution with padding, optionally batch normalization, ReLU and
    2 × 2 max pooling; a linear layer reads the flattened last stage. In evaluation mode the
    network is piecewise linear. Weights are He normal (He et al. 2015, arXiv:1502.01852), those
    of the last layer have variance `1 / n_in`; biases are zero.

    Args:
        image: channels, height and width of an input.
        channels: channels of each stage; each halves height and width, rounding down.
        outputs: features out.
        batch_norm: whether stages have batch normalization (their convolutions then no bias).
        parametrization: `standard`.

    Returns:
        A network from `[batch, *image]` to `[batch, outputs]`, in the default dtype.

    Raises:
        InputError: no stage, a size below 1, an image too small for the stages, or an unknown
            parametrization.

    """
    if parametrization not in FAMILY.parametrizations:
        raise InputError("parametrization", repr(parametrization), "standard")
    if not channels or min(*image, *channels, outputs) < 1:
        raise InputError(
            "channels",
            f"image {image}, channels {list(channels)} and {outputs} outputs",
            "at least one stage, and sizes of at least 1",
        )
    before, height, width = image
    layers: list[nn.Module] = []
    for after in channels:
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        norm = [nn.BatchNorm2d(after)] if batch_norm else []
        layers += [convolution, *norm, nn.ReLU(), nn.MaxPool2d(2)]
        before, height, width = after, height // 2, width // 2
    if min(height, width) < 1:
        raise InputError(
            "channels",
            f"{len(channels)} stages that each halve an image of {image[1]} × {image[2]}",
            "at least one pixel after the last stage",
        )
    head = nn.Linear(before * height * width, outputs)
    nn.init.kaiming_normal_(head.weight, nonlinearity="linear")
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, nn.Flatten(), head)


FAMILY = Family(
    title="small convolutional networks",
    build=build,
    parametrizations=("standard",),
    tags=("float-inputs", "deterministic", "trainable", "piecewise-linear"),
    infinite_width=False,
)
