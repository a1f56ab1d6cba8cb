"""A site works on its CPU: what torch brings for GPUs alone stays out of its memory."""

from __future__ import annotations

import sys


def leave_out_triton() -> None:
    """Keep torch from loading Triton, which makes kernels for GPUs and takes 80 MB; to be called before the first step.

    Torch's optimizers load its compiler to mark that they are not to be compiled, and the compiler loads Triton where
    it is installed. It does without where it is not, as in torch's builds for the CPU: None in its place says so.
    """
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
