"""The networks of `tests.cases` that are more than a chain of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TiedWeights(nn.Module):
    """Two square layers that share one weight and have biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.last = nn.Linear(6, 3)
        self.bend = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.bend(self.second(self.bend(self.first(inputs))))
        scores: Tensor = self.last(hidden)
        return scores


def frozen_first_layer() -> nn.Module:
    """A ReLU network whose first layer and last bias are frozen."""
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    for name in ("0.weight", "0.bias", "4.bias"):
        module.get_parameter(name).requires_grad_(False)
    return module


class BufferedNetwork(nn.Module):
    """A ReLU network that standardizes its inputs by registered buffers."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", 0.3 * torch.randn(6))
        self.register_buffer("scale", 0.5 + torch.rand(6))
        self.network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.network((inputs - self.shift) * self.scale)
        return scores


class DictOutput(nn.Module):
    """A ReLU network that returns its scores under a name, beside its hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.last = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(inputs)
        return {"hidden": hidden, "logits": self.last(hidden)}


class TupleOutput(DictOutput):
    """The same, returning a tuple with the scores first."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        hidden = self.hidden(inputs)
        return self.last(hidden), hidden


class TokenClassifier(nn.Module):
    """Embeds tokens of a fixed number of positions, and reads them by a tanh network."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.read(self.embed(tokens))
        return scores


class MaskedTokens(nn.Module):
    """Averages the embeddings of the tokens a mask keeps; called with keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.read = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        kept = mask.to(self.embed.weight.dtype)[..., None]
        scores: Tensor = self.read((self.embed(tokens) * kept).sum(dim=1) / kept.sum(dim=1))
        return scores


class SequenceTagger(nn.Module):
    """Scores `[rows, 5, 3]` for each token, seeing its neighbor on the left too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.read = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embed(tokens)
        scores: Tensor = self.read(torch.cat([embedded, embedded.roll(1, dims=1)], dim=-1))
        return scores


class RecurrentClassifier(nn.Module):
    """Reads the last state of a recurrent layer over a series of 5 steps of 3 numbers."""

    def __init__(self, layer: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.recurrent = layer(3, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.recurrent(series)
        scores: Tensor = self.last(states[:, -1])
        return scores


class EncoderClassifier(nn.Module):
    """PyTorch's own transformer encoder layer over a series of 5 steps of 3 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, series: Tensor) -> Tensor:
        scores: Tensor = self.last(self.encoder(self.embed(series)).mean(dim=1))
        return scores


class ResidualConvolution(nn.Module):
    """A residual block with batch normalization, pooled and read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(4)
        self.bend = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.last = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.bend(self.stem_norm(self.stem(images)))
        hidden = self.bend(stem + self.inner_norm(self.inner(stem)))
        scores: Tensor = self.last(self.pool(hidden).flatten(1))
        return scores
