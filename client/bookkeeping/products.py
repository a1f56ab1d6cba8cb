"""Products of many small matrices, a batch of them at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating]

SMALL = 1_000_000 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1 << 18
"""Multiplications up to which numpy's BLAS (OpenBLAS) takes a product by itself, on one thread and at its best."""

NARROW, WIDE = 96, 16
"""Columns from which a part of a product is worth a call, and what they are rounded down to."""

BLOCK = 4096
"""Numbers whose norm is taken at a time."""


def batched(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a`` (n, A, K) times ``b`` (n, K, B), (n, A, B).

    torch hands the CPU's share to MKL, which for small products is slower than OpenBLAS by a third and more; larger
    ones are cut into small ones, as long as those do not get narrow.
    """
    if a.is_cuda:
        return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
    found = a.new_empty(len(a), a.shape[1], b.shape[2]) if out is None else out
    multiply(a.detach().numpy(), b.detach().numpy(), found.numpy())
    return found


def multiply(a: Floats, b: Floats, out: Floats) -> None:
    """Write ``a`` (n, A, K) times ``b`` (n, K, B) to ``out`` (n, A, B)."""
    fan_out, inner, columns = a.shape[1], a.shape[2], b.shape[2]
    width = min(columns, SMALL // max(1, fan_out * inner))
    if not width or width < min(columns, NARROW):
        torch.bmm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))
        return
    if width < columns:
        width -= width % WIDE
    with np.errstate(all="ignore"):  # a broken unit may be infinite; the book finds it by its norm
        for start in range(0, columns, width):
            part = slice(start, start + width)
            np.matmul(a, b[:, :, part], out=out[:, :, part])


def squared_norms(rows: Tensor) -> Tensor:
    """Return the squared norms (n,) of rows (n, P).

    torch's norm of a long row in float32 falls short, by 4e-4 of it at ten million numbers, and a unit would be clipped
    too little. Norms of short blocks keep their digits, and their squares are added up in float64.
    """
    many = rows.shape[1] // BLOCK
    if not many:
        return torch.linalg.vector_norm(rows, dim=1).square_()
    blocks = rows[:, : many * BLOCK].reshape(len(rows), many, BLOCK)
    rest = torch.linalg.vector_norm(rows[:, many * BLOCK :], dim=1).double().square_()
    found = torch.linalg.vector_norm(blocks, dim=2).double().square_().sum(1).add_(rest)
    return found.to(rows.dtype)
