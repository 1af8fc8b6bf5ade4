"""Small transformer classifiers that read the patches of an image as tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.family import Family


class SelfAttention(nn.Module):
    """Multi-head self-attention, `softmax(q k^T / sqrt(d)) v`, written out.

    The fused attention kernels of PyTorch have no second derivatives on the CPU; these four
    lines have derivatives of every order, forward, reverse and under `vmap`, at the price of
    holding the `tokens × tokens` weights.

    Args:
        width: features of a token; a multiple of `heads`.
        heads: number of heads.

    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[batch, tokens, width]` to the same shape."""
        batch, count, width = tokens.shape
        read = self.read(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = read.permute(0, 2, 3, 1, 4).unbind(1)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores, dim=-1) @ value
        return self.write(mixed.transpose(1, 2).reshape(batch, count, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A pre-norm transformer block: attention and a two-layer network, each with a skip."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm_network = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[batch, tokens, width]` to the same shape."""
        tokens = tokens + self.attention(self.norm_attention(tokens))
        return tokens + self.network(self.norm_network(tokens))  # type: ignore[no-any-return]


class PatchTransformer(nn.Module):
    """A transformer over the patches of an image, averaged and read by a linear layer."""

    def __init__(
        self, image: tuple[int, int, int], patch: int, sizes: tuple[int, int, int], outputs: int
    ) -> None:
        super().__init__()
        width, depth, heads = sizes
        channels, height, across = image
        self.patch = patch
        count = (height // patch) * (across // patch)
        self.embed = nn.Linear(channels * patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(count, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[batch, channels, height, width]` to `[batch, outputs]`."""
        patch = self.patch
        batch, channels, height, width = images.shape
        cut = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
        tokens = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        mixed = self.blocks(self.embed(tokens) + self.position)
        return self.head(self.norm(mixed).mean(dim=1))  # type: ignore[no-any-return]


def build(
    image: tuple[int, int, int],
    patch: int,
    outputs: int,
    *,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    parametrization: str = "standard",
) -> PatchTransformer:
    """Return a transformer over image patches with fresh weights.

    Pre-norm blocks, GELU, learned positions, no dropout, mean over tokens: smooth in parameters
    and inputs. Weights start as PyTorch starts its linear layers, positions with deviation 0.02.

    Args:
        image: channels, height and width of an input.
        patch: side of the square patches, in pixels; divides height and width.
        outputs: features out.
        width: features of a token.
        depth: number of blocks.
        heads: attention heads; divides `width`.
        parametrization: `standard`.

    Returns:
        A network from `[batch, *image]` to `[batch, outputs]`, in the default dtype. Cost of a
        forward pass: order `depth * tokens * width * (width + tokens)` an image.

    Raises:
        InputError: a size below 1, a patch or a number of heads that does not divide, or an
            unknown parametrization.

    """
    if parametrization not in FAMILY.parametrizations:
        raise InputError("parametrization", repr(parametrization), "standard")
    if min(*image, patch, outputs, width, depth, heads) < 1:
        raise InputError(
            "image", f"a size below 1 (image {image}, patch {patch})", "sizes of at least 1"
        )
    if image[1] % patch or image[2] % patch:
        raise InputError("patch", f"{patch}", f"a divisor of {image[1]} and {image[2]}")
    if width % heads:
        raise InputError("heads", f"{heads}", f"a divisor of the width {width}")
    return PatchTransformer(image, patch, (width, depth, heads), outputs)


FAMILY = Family(
    title="small transformers over image patches",
    build=build,
    parametrizations=("standard",),
    tags=("float-inputs", "deterministic", "trainable", "smooth"),
    infinite_width=False,
)
