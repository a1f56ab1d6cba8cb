"""How much memory a site's processes take, and what they leave out of it: a site works on its CPU."""

from __future__ import annotations

import resource
import sys


def leave_out_triton() -> None:
    """Keep torch from loading Triton, which makes kernels for GPUs and takes 80 MB; to be called before the first step.

    Torch's optimizers load its compiler to mark that they are not to be compiled, and the compiler loads Triton where
    it is installed. It does without where it is not, as in torch's builds for the CPU: None in its place says so.
    """
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


def peak_mb() -> float:
    """Return the most memory that this process ever held at once, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # of the kernel's figure, in bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
