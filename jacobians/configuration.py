"""What runs here: the compiled kernel or NumPy, on which processor, with how many threads."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import scipy

import jacobians
from jacobians import _kernels
from jacobians._machine import THREADS


def show_config() -> None:
    """Print versions, the path that Jacobians take, the linear algebra library, and threads.

    >>> show_config()  # doctest: +ELLIPSIS
    jacobians ...
    kernel: ...
    """
    print("\n".join(f"{name}: {value}" if value else name for name, value in configuration()))


def configuration() -> list[tuple[str, str]]:
    """Return what ``show_config`` prints, line by line."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    given = [name for name in os.environ if name.startswith(("OPENBLAS_", "OMP_", "MKL_"))]
    return [
        (f"jacobians {jacobians.__version__}, Python {platform.python_version()}", ""),
        ("kernel", _kernel()),
        ("NumPy", f"{np.__version__}, {blas['name']} {blas['version']}"),
        ("SciPy", scipy.__version__),
        ("processor", _processor()),
        ("threads", f"{THREADS} of {os.cpu_count()} processors"),
        (
            "environment",
            ", ".join(f"{name}={os.environ[name]}" for name in sorted(given)) or "plain",
        ),
    ]


def _kernel() -> str:
    if _kernels.PROCESSORS:
        return f"compiled, for {_kernels.PROCESSORS[-1]}"
    return "turned off by JACOBIANS_KERNELS=0" if _kernels.is_built() else "none, NumPy alone"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
