"""Small networks whose uses of parameters are all known, with their inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.derivatives.making import normal
from torch import Tensor, nn
from torch.nn import functional

ROWS = 7


class Scaled(nn.Module):
    """A matrix used twice, once transposed and times a number, beside a scale and a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(5, 6))
        self.bias = nn.Parameter(torch.zeros(5))
        self.scale = nn.Parameter(torch.zeros(6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.linear(x, 0.5 * self.matrix, self.bias).tanh()
        back = functional.linear(hidden, self.matrix.T) * self.scale + self.shift
        return self.head(back.sin())


class Tokens(nn.Module):
    """Embedded tokens with a padding row, positions, layer normalization, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, padding_idx=2)
        self.position = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.inner = nn.Linear(4, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])[None]
        hidden = self.norm(self.table(tokens) + self.position(places))
        return self.head(self.inner(hidden).tanh().mean(1))


class Frames(nn.Module):
    """Two images a row, convolved in groups with strides and gaps, batch normalization fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, groups=2, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 2, groups=4, dilation=2)
        self.head = nn.Linear(24, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(0, 1)
        hidden = self.second(self.norm(self.first(flat)).tanh()).tanh().mean((2, 3))
        return self.head(hidden.reshape(len(images), -1))


class Attending(nn.Module):
    """PyTorch's own encoder, then keys from elsewhere through matrices of their own shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True)
        self.elsewhere = nn.MultiheadAttention(4, 2)
        self.apart = nn.MultiheadAttention(4, 2, bias=False, kdim=3, vdim=5, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        hidden = self.encoder(x, src_mask=mask, src_key_padding_mask=-x[..., 0].abs())
        times = hidden.transpose(0, 1)
        hidden = self.elsewhere(times, times.sin(), times.sin())[0].transpose(0, 1)
        found, weights = self.apart(hidden, x[..., :3], x.repeat(1, 1, 2)[..., :5])
        return self.head(found.mean(1)) * (1 + weights.square().sum((1, 2))[:, None])


class Recurrent(nn.Module):
    """Layers and single steps of PyTorch's recurrent modules, forth and back."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 4, 2, bidirectional=True)
        self.gates = nn.GRU(8, 5, batch_first=True)
        self.plain = nn.RNN(5, 3, nonlinearity="relu", bias=False)
        self.bent = nn.RNN(3, 4, batch_first=True)
        self.cells = nn.ModuleList(
            [nn.LSTMCell(4, 3), nn.GRUCell(3, 3), nn.RNNCell(3, 4, bias=False)]
        )
        self.head = nn.Linear(8, 3)

    def forward(self, series: Tensor) -> Tensor:
        hidden, (_, cell) = self.memory(series.transpose(0, 1))
        hidden = self.gates(hidden.transpose(0, 1))[0].transpose(0, 1)
        hidden, last = self.bent(self.plain(hidden)[0].transpose(0, 1))
        memory, gates, plain = self.cells
        one = plain(gates(memory(last[0])[1]))
        return self.head(torch.cat([one, hidden.mean(1) + cell.mean(0)], dim=1))


def spread() -> Tensor:
    return torch.arange(ROWS * 5).reshape(ROWS, 5) * 7 % 9


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "scaled": (Scaled, lambda: normal(ROWS, 6)),
    "tokens": (Tokens, spread),
    "frames": (Frames, lambda: normal(ROWS, 2, 2, 8, 8)),
    "attending": (Attending, lambda: normal(ROWS, 3, 4).clamp(max=1.5)),
    "recurrent": (Recurrent, lambda: normal(ROWS, 4, 3)),
    "series": (
        lambda: nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2), nn.Flatten()),
        lambda: normal(ROWS, 4, 3),
    ),
}
