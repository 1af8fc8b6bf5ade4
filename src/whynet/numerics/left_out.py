"""Leaving one row out of a least-squares or generalized linear fit, without fitting again.

A fit minimizes sum_j loss_j(f_j) + damping / 2 |w - w0|^2 with outputs f_j linear in w. With
H = sum_j J_j' B_j J_j + damping, where B_j is the curvature of loss_j, one Newton step on the
objective without row i moves that row's own outputs by

    (I - M_i B_i)^-1 M_i g_i,    M_i = J_i H^-1 J_i',    g_i = gradient of loss_i,

by Woodbury's identity. For squared error this is exact: residual / (1 - leverage).
"""

from __future__ import annotations

import torch
from torch import Tensor


def without_row(block: Tensor, curvature: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return how outputs of every row move where it is left out, and its leverage.

    Args:
        block: `[rows, outputs, outputs]`, J_i H^-1 J_i' with all rows in H.
        curvature: `[rows, outputs, outputs]`, second derivatives of a row's loss.
        gradient: `[rows, outputs]`, first derivatives of a row's loss.

    Returns:
        change of the outputs `[rows, outputs]`, and leverage `[rows]`, the trace of M_i B_i.

    """
    weighted = block @ curvature
    one = torch.eye(block.shape[1], dtype=block.dtype, device=block.device)
    pushed = (block @ gradient[..., None])[..., 0]
    change = torch.linalg.solve(one - weighted, pushed)
    return change, weighted.diagonal(dim1=1, dim2=2).sum(1)


def softmax_root(chances: Tensor) -> Tensor:
    """Return L with L L' = diag(p) - p p', the curvature of cross-entropy in the logits.

    Args:
        chances: `[rows, classes]`, probabilities p.

    Returns:
        `[rows, classes, classes]`, diag(sqrt p) - p sqrt(p)'.

    """
    root = chances.sqrt()
    return torch.diag_embed(root) - chances[:, :, None] * root[:, None, :]


def pull(gradient: Tensor, moved: Tensor) -> tuple[float, float]:
    """Return the damping at which a displacement balances a gradient best, and how well.

    At a minimum of loss + damping / 2 |moved|^2 the gradient is -damping * moved.

    Args:
        gradient: `[parameters]`, of the loss without its penalty.
        moved: `[parameters]`, weights less the point they are pulled to.

    Returns:
        Least-squares damping, and the cosine between -gradient and displacement: 1 at a minimum.
        Zero and zero where either is zero.

    """
    length, steepness = float(moved.norm()), float(gradient.norm())
    if length == 0 or steepness == 0:
        return 0.0, 0.0
    along = -float(gradient @ moved)
    return along / length**2, along / (length * steepness)
