"""npz and npy, carefully: nothing is unpickled, and no size is believed before it is checked.

An archive from anywhere may describe itself at any length, claim members that overlap or that are
not there, and arrays of any shape.  So its directory is read within a limit, members must be
stored as they are and fit the file side by side, and the header of an array must explain every
byte.  Nothing is ever extracted: the name of a member is a key, never a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from jacobians._checks import ModelFormatError, Numbers
from jacobians._writing import replacing

if TYPE_CHECKING:  # zipfile is loaded where it is used, to import fast
    from zipfile import ZipFile, ZipInfo

LIMIT = 2**20  # bytes in which an archive, or a network, may describe itself


def write_npz(path: str, arrays: Mapping[str, Numbers]) -> None:
    """Write arrays to an uncompressed npz file, replacing an old one in one step."""
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@contextmanager
def opened(path: str | os.PathLike[str], kind: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file to be read, of a size in bytes: whatever goes wrong is a ModelFormatError.

    Its message begins with the name of the file; ``kind`` is what the file should have been.
    """
    name = os.path.basename(path)
    with open(path, "rb") as file:
        try:
            yield file, os.fstat(file.fileno()).st_size
        except ModelFormatError as err:
            raise ModelFormatError(f"{name}: {str(err).removeprefix(f'{name}: ')}") from None
        except Exception as err:  # whatever a damaged file leads to
            said = str(err).removeprefix(f"{name}: ") or repr(err)
            raise ModelFormatError(f"{name}: not a readable {kind}: {said:.200}") from err


def read_npz(path: str) -> dict[str, Numbers]:
    """Read all arrays of an npz file, never allocating more than the file holds."""
    import zipfile

    with opened(path, "npz archive") as (file, size):
        source = Brief(file)
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            require_side_by_side(members, size)
            source.most = size
            return {_key(m): _read_member(archive, m) for m in members}


def read_npy(path: str) -> Numbers:
    """Read the array of an npy file, with the same care."""
    with opened(path, "npy file") as (file, size):
        return _read_array(file, "its array", size)


class Brief:
    """A file that refuses to be read at length: ``most`` bytes at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.most = file, os.fstat(file.fileno()).st_size, LIMIT

    def read(self, size: int = -1) -> bytes:
        """Read as ``file`` does, or refuse."""
        asked = self.size - self.file.tell() if size < 0 else size
        if asked > self.most:
            raise ModelFormatError(f"describes itself in {asked} bytes, over a limit of {LIMIT}.")
        return self.file.read(asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def require_side_by_side(
    members: list[ZipInfo], size: int, way_out: str = "write it with save or numpy.savez"
) -> None:
    """Refuse members of one name, compressed ones, and more of them than the file holds."""
    if len({_key(member) for member in members}) < len(members):
        raise ModelFormatError("two members have the same name.")
    for member in members:
        if member.compress_type != 0 or member.file_size != member.compress_size:
            raise ModelFormatError(f"{member.filename} is compressed; {way_out}.")
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise ModelFormatError(f"claims {claimed} bytes, but the file has {size}.")


def _key(member: ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _read_member(archive: ZipFile, member: ZipInfo) -> Numbers:
    with archive.open(member) as file:
        return _read_array(file, member.filename, member.file_size)


def _read_array(file: Any, name: str, size: int) -> Numbers:
    """Read one npy stream whose header must explain every byte; the array is read-only."""
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ModelFormatError(f"{name} has npy format version {version}, expected (1, 0).")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    if dtype.kind not in "fiuU":
        raise ModelFormatError(f"{name} has dtype {dtype}, expected plain numbers or text.")
    claimed = prod(shape) * dtype.itemsize
    if claimed != size - file.tell():
        raise ModelFormatError(f"{name} claims shape {shape}, which is not what the file holds.")
    return np.ndarray(shape, dtype, file.read(claimed), order="F" if fortran else "C")
