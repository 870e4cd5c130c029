"""Compile the kernel: ``python -m jacobians._kernels.build`` in place, or the hook of the wheel.

A compiler with the vector extensions of GCC and Clang is all it takes.  Where there is none, or it
fails, the wheel is pure Python and says so by its tag; an installation never fails because of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # not building a wheel
    BuildHookInterface = object

FOLDER = Path(__file__).parent
NAME = "_kernel.abi3.so"
# The order of a sum is written in the source, and no option here allows another one.
OPTIONS = ["-std=gnu11", "-O2", "-fPIC", "-ffp-contract=fast", "-fno-math-errno"]
OPTIONS += ["-fno-trapping-math", "-Wno-psabi"]
SANITIZERS = ["-O1", "-g", "-DBASELINE_ALONE", "-fsanitize=address,undefined"]
SANITIZERS += ["-fno-sanitize-recover=undefined"]


def compile_kernel(folder: Path, extra: list[str] | None = None) -> Path:
    """Compile into a folder.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If there is no compiler, or it fails.
    """
    if platform.system() == "Windows" or sys.maxsize < 2**32:
        raise OSError("the kernel is for 64 bits, and for systems with GCC or Clang")
    given = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    compiler = shlex.split(given)
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    include = ["-I", sysconfig.get_paths()["include"]]
    made = folder / NAME
    command = [*compiler, *OPTIONS, *(extra or []), *link, *include]
    command += [str(FOLDER / "kernel.c"), "-o", str(made), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return made


class KernelHook(BuildHookInterface):  # type: ignore[misc]
    """Put the kernel into the wheel, or leave it out quietly."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        if os.environ.get("JACOBIANS_KERNELS") == "0":
            return
        self.folder = tempfile.mkdtemp()
        try:
            made = compile_kernel(FOLDER if version == "editable" else Path(self.folder))
        except (OSError, subprocess.CalledProcessError) as err:
            said = (getattr(err, "stderr", "") or str(err)).strip().splitlines()
            self.app.display_info(f"without the compiled kernel: {said[0] if said else err!r}")
            return
        if version != "editable":
            build_data["force_include"][str(made)] = f"jacobians/_kernels/{NAME}"
        system = sysconfig.get_platform().replace("universal2", platform.machine())
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{system.replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled beside the wheel."""
        shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)


def main() -> int:
    """Compile in place, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", action="store_true", help="with checks of every address")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    try:
        made = compile_kernel(arguments.folder, SANITIZERS if arguments.sanitize else None)
    except subprocess.CalledProcessError as err:
        print(err.stderr, file=sys.stderr)
        return 1
    except OSError as err:
        print(err, file=sys.stderr)
        return 1
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
