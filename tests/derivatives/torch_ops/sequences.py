"""Embeddings, recurrent networks, attention, and what draws random numbers."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from tests.derivatives.torch_ops.small import Case, Cases, Small, hidden, of
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def tokens(make: object) -> object:
    """A case: tokens through an embedding, tanh, a linear head."""

    def build() -> Case:
        net = Small(lambda m, x: m.head(m.e(x).tanh()), e=make(), head=nn.Linear(3, 2))
        return Case(net, torch.tensor([[0, 2, 1], [4, 3, 3], [2, 2, 5], [1, 5, 0]]))

    return build


def recurrent(make: object) -> object:
    """A case: a recurrent layer over 4 steps."""
    return of(lambda m, x: m.r(x)[0], 3, 4, 2, r=make, W=(1,))


def cell(make: object) -> object:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        state = None
        for step in range(3):
            state = m.r(x, state if step else None)
        return state[0] if isinstance(state, tuple) else state

    return of(run, 3, 2, r=make, W=(1,))


def packed(m: nn.Module, x: Tensor) -> Tensor:
    rows = pack_padded_sequence(x, [4, 3, 2], batch_first=True)
    return pad_packed_sequence(m.r(rows)[0], batch_first=True)[0]


def heads(m: nn.Module, x: Tensor) -> list[Tensor]:
    return [(x @ w).unflatten(-1, (2, 4)).transpose(1, 2) for w in (m.Q, m.K, m.V)]


def attention(function: object) -> object:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        return function(*heads(m, x))

    return of(run, 2, 4, 3, Q=(3, 8), K=(3, 8), V=(3, 8), W=(1,))


def math_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)


def encoder(mode: bool) -> object:
    def build() -> Case:
        layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True, activation="gelu")
        return Case(layer.train(mode), torch.randn(2, 3, 4))

    return build


multihead = partial(nn.MultiheadAttention, 4, 2, batch_first=True)

CASES: Cases = {
    "embedding": tokens(lambda: nn.Embedding(6, 3)),
    "embedding_padding": tokens(lambda: nn.Embedding(6, 3, padding_idx=2)),
    "embedding_maxnorm": tokens(lambda: nn.Embedding(6, 3, max_norm=0.5)),
    "embedding_sparse": tokens(lambda: nn.Embedding(6, 3, sparse=True)),
    "embedding_bag_sum": tokens(lambda: nn.EmbeddingBag(6, 3, mode="sum")),
    "embedding_bag_mean": tokens(lambda: nn.EmbeddingBag(6, 3, mode="mean")),
    "embedding_bag_max": tokens(lambda: nn.EmbeddingBag(6, 3, mode="max")),
    "rnn": recurrent(lambda: nn.RNN(2, 3, batch_first=True)),
    "lstm": recurrent(lambda: nn.LSTM(2, 3, batch_first=True)),
    "lstm_proj_bi": recurrent(
        lambda: nn.LSTM(2, 3, batch_first=True, proj_size=2, bidirectional=True)
    ),
    "gru": recurrent(lambda: nn.GRU(2, 3, batch_first=True)),
    "lstm_packed": of(packed, 3, 4, 2, r=lambda: nn.LSTM(2, 3, batch_first=True), W=(1,)),
    "lstm_cell": cell(lambda: nn.LSTMCell(2, 3)),
    "gru_cell": cell(lambda: nn.GRUCell(2, 3)),
    "sdpa": attention(F.scaled_dot_product_attention),
    "sdpa_causal": attention(partial(F.scaled_dot_product_attention, is_causal=True)),
    "sdpa_dropout": attention(partial(F.scaled_dot_product_attention, dropout_p=0.3)),
    "sdpa_math_ctx": attention(math_attention),
    "flex_attention": attention(flex_attention),
    "mha_train": of(lambda m, x: m.a(x, x, x, need_weights=False)[0], 2, 3, 4, a=multihead, W=(1,)),
    "mha_needweights": of(lambda m, x: m.a(x, x, x)[0], 2, 3, 4, a=multihead, W=(1,)),
    "enc_layer_train": encoder(True),
    "enc_layer_eval": encoder(False),
    "dropout_train": hidden(lambda: nn.Dropout(0.5)),
    "alpha_dropout": hidden(lambda: nn.AlphaDropout(0.5)),
    "dropout_eval": hidden(lambda: nn.Dropout(0.5).eval()),
    "gaussian_noise": of(lambda m, x: (x @ m.W) * torch.randn(x.shape[0], 4)),
    "gumbel_softmax": of(lambda m, x: F.gumbel_softmax(x @ m.W)),
    "bernoulli_sample": of(lambda m, x: (x @ m.W).tanh() * torch.bernoulli((x @ m.W).sigmoid())),
    "tied_weights": of(lambda m, x: (x @ m.W).tanh() @ m.W.T),
}
for name in ("enc_layer_eval_math", "enc_layer_mha_fastpath_off"):
    CASES[name] = encoder(False)
