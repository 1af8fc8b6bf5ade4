"""Compiled, traced, exported and wrapped modules; sparse and nested tensors."""

from __future__ import annotations

import torch
from tests.derivatives.torch_ops.small import Case, Cases, bent, of
from torch import Tensor, nn


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def wrapped(wrap: object) -> object:
    def build() -> Case:
        return Case(wrap(plain()), torch.randn(5, 3))

    return build


def exported(dtype: torch.dtype) -> object:
    def build() -> Case:
        net = plain().to(dtype)
        program = torch.export.export(net, (torch.randn(5, 3, dtype=dtype),))
        return Case(program.module(), torch.randn(5, 3))

    return build


def sparse(m: nn.Module, x: Tensor) -> Tensor:
    return torch.sparse.mm((x * (x > 0)).to_sparse(), m.W).tanh()


def compressed(m: nn.Module, x: Tensor) -> Tensor:
    return ((x * (x > 0)).to_sparse_csr() @ m.W).tanh()


def nested(m: nn.Module, x: Tensor) -> Tensor:
    rows = torch.nested.nested_tensor([x[:2], x[2:]], layout=torch.jagged)
    return (rows @ m.W).tanh().values()


CASES: Cases = {
    "jit_script": wrapped(torch.jit.script),
    "jit_trace": wrapped(lambda net: torch.jit.trace(net, torch.randn(5, 3))),
    "fx_graph": wrapped(torch.fx.symbolic_trace),
    "torch_export": exported(torch.float32),
    "data_parallel": wrapped(nn.DataParallel),
    "compile_eager": wrapped(lambda net: torch.compile(net, backend="eager")),
    "compile_aot_eager": wrapped(lambda net: torch.compile(net, backend="aot_eager")),
    "to_sparse_mm": of(sparse),
    "csr_mm": of(compressed),
    "nested_tensor": of(nested),
}
__all__ = ["CASES", "bent"]
