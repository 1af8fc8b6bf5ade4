"""Operations on tensors: linear algebra, distances, reductions, scattering, special functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.derivatives.torch_ops.small import Cases, of
from torch import Tensor, nn

INDEX = torch.tensor([0, 2, 1, 0, 2])


def square(m: nn.Module, x: Tensor) -> Tensor:
    """A well-conditioned 4 x 4 matrix that depends on the weight."""
    return (x @ m.W).T @ (x @ m.W).tanh() + 3 * torch.eye(4)


def positive(m: nn.Module, x: Tensor) -> Tensor:
    """A symmetric matrix with separated positive eigenvalues."""
    y = x @ m.W
    return y.T @ y + torch.diag(torch.arange(1.0, 5.0))


def scattered(reduce: str, start: float) -> object:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        y = (x @ m.W).tanh()
        return torch.full((3, 4), start).scatter_reduce(0, INDEX[:, None].expand(5, 4), y, reduce)

    return of(run)


def reflected(m: nn.Module, x: Tensor) -> Tensor:
    y = (x @ m.W)[:4, :2]
    return torch.linalg.householder_product(y, 2 / (1 + y.square().sum(0)))


def filtered(m: nn.Module, x: Tensor) -> Tensor:
    y = (x @ m.W).reshape(-1)
    return torch.view_as_real(torch.stft(y, 8, 4, window=torch.ones(8), return_complex=True)).sin()


def polar(m: nn.Module, x: Tensor) -> Tensor:
    y = x @ m.W
    return torch.atan2(y[:, :2], y[:, 2:])


def complexly(m: nn.Module, x: Tensor) -> Tensor:
    return torch.view_as_real(torch.complex(x, x.sin()) @ torch.complex(m.W, m.U)).tanh()


CASES: Cases = {
    "cdist_p2": of(lambda m, x: torch.cdist(x @ m.W, x[:2].sin() @ m.W)),
    "cdist_p2_nomm": of(
        lambda m, x: torch.cdist(x @ m.W, m.U, compute_mode="donot_use_mm_for_euclid_dist"),
        U=(2, 4),
    ),
    "cdist_self": of(lambda m, x: torch.cdist(x @ m.W, (x @ m.W).sin() + 1)),
    "cdist_p1": of(lambda m, x: torch.cdist((x @ m.W).tanh(), m.U, p=1.0), U=(2, 4)),
    "pdist": of(lambda m, x: F.pdist(x @ m.W)),
    "pairwise_distance": of(lambda m, x: F.pairwise_distance(x @ m.W, m.U), U=(5, 4)),
    "norm": of(lambda m, x: torch.linalg.vector_norm(x @ m.W, dim=-1)),
    "matrix_norm_nuc": of(lambda m, x: torch.linalg.matrix_norm((x @ m.W)[:, :3], "nuc")),
    "matrix_norm_nuc_rank_deficient": of(lambda m, x: torch.linalg.matrix_norm(x @ m.W, "nuc")),
    "svdvals": of(lambda m, x: torch.linalg.svdvals((x @ m.W)[:, :3])),
    "eigh": of(lambda m, x: torch.linalg.eigh(positive(m, x))[0]),
    "cholesky": of(lambda m, x: torch.linalg.cholesky(positive(m, x))),
    "inv": of(lambda m, x: torch.linalg.inv(positive(m, x))),
    "qr": of(lambda m, x: torch.linalg.qr((x @ m.W)[:, :2])[1]),
    "logdet": of(lambda m, x: torch.logdet(positive(m, x))),
    "matrix_exp": of(lambda m, x: torch.matrix_exp(0.2 * square(m, x).tanh())),
    "fft": of(lambda m, x: torch.view_as_real(torch.fft.rfft((x @ m.W).tanh()))),
    "stft": of(filtered, 8, 3),
    "complex_linear": of(complexly, U=(3, 4)),
    "sort": of(lambda m, x: (x @ m.W).sort(-1)[0] * torch.arange(1.0, 5.0)),
    "topk": of(lambda m, x: (x @ m.W).topk(2)[0]),
    "median": of(lambda m, x: (x @ m.W).median(-1)[0]),
    "amax": of(lambda m, x: (x @ m.W).amax(-1)),
    "max_dim": of(lambda m, x: (x @ m.W).max(-1)[0]),
    "cummax": of(lambda m, x: (x @ m.W).cummax(-1)[0]),
    "cumprod": of(lambda m, x: (x @ m.W).cumprod(-1)),
    "cumsum": of(lambda m, x: (x @ m.W).cumsum(-1)),
    "logcumsumexp": of(lambda m, x: (x @ m.W).logcumsumexp(-1)),
    "prod": of(lambda m, x: (x @ m.W).prod(-1)),
    "std": of(lambda m, x: (x @ m.W).std(-1)),
    "var_mean": of(lambda m, x: torch.stack(torch.var_mean((x @ m.W).tanh(), -1))),
    "gather_scatter": of(
        lambda m, x: torch.zeros(3, 4).scatter(
            0, INDEX[None, :4], (x @ m.W)[2:3].gather(1, INDEX[None, :4])
        )
    ),
    "index_add": of(lambda m, x: torch.zeros(3, 4).index_add(0, INDEX, (x @ m.W).tanh())),
    "index_reduce": of(
        lambda m, x: torch.ones(3, 4).index_reduce(0, INDEX, (x @ m.W).tanh(), "mean")
    ),
    "scatter_reduce_prod": scattered("prod", 1.0),
    "scatter_reduce_amax": scattered("amax", -2.0),
    "segment_reduce": of(
        lambda m, x: torch.segment_reduce(
            (x @ m.W).tanh(), "mean", lengths=torch.tensor([2, 3]), axis=0
        )
    ),
    "masked_select": of(lambda m, x: (x @ m.W).masked_select(x[:, :1] > 0)),
    "bool_index": of(lambda m, x: (x @ m.W)[x[:, 0] > 0]),
    "where": of(lambda m, x: torch.where(x[:, :1] > 0, (x @ m.W).exp(), (x @ m.W).tanh())),
    "einsum": of(lambda m, x: torch.einsum("ni,ij,kj->nk", x, m.W, m.U), U=(2, 4)),
    "bilinear": of(lambda m, x: m.b(x, x.sin()), b=lambda: nn.Bilinear(3, 3, 2), W=(1,)),
    "repeat_interleave": of(lambda m, x: (x @ m.W).tanh().repeat_interleave(2, 0)),
    "erfinv": of(lambda m, x: torch.erfinv(0.5 * (x @ m.W).tanh())),
    "lgamma": of(lambda m, x: torch.lgamma(1 + (x @ m.W).square())),
    "atan2_polar": of(polar),
    "trapezoid": of(lambda m, x: torch.trapezoid((x @ m.W).tanh(), dx=0.5)),
    "householder": of(reflected),
    "lu_factor": of(lambda m, x: torch.linalg.lu_factor(positive(m, x))[0]),
    "lstsq": of(lambda m, x: torch.linalg.lstsq((x @ m.W)[:, :2], x[:, :1]).solution),
    "searchsorted_const": of(
        lambda m, x: (x @ m.W).sum() * torch.searchsorted(torch.arange(-2.0, 3.0), x)
    ),
    "nan_to_num": of(lambda m, x: torch.nan_to_num((x @ m.W).tanh())),
    "clamp": of(lambda m, x: (x @ m.W).clamp(-0.5, 0.5)),
    "sign": of(lambda m, x: (x @ m.W) * (x @ m.W).sign()),
}
