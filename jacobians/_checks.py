"""One voice for input errors: where, what was demanded, what came, and the way out.

Every public function passes its arguments through this module before it looks at them, so a user
reads the same kind of sentence everywhere::

    Network: layer 2 (Dense 5 -> 4) takes 5 inputs, but layer 1 gives 3.

Wrong values and shapes are ``ValueError`` (with a named subclass where a program would want to
tell them apart), wrong kinds are ``TypeError``.  Callers' arrays are never changed, and never kept
unless they are read-only already.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import wraps
from math import prod
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
F = TypeVar("F", bound=Callable[..., Any])
Numbers: TypeAlias = NDArray[Any]  # any dtype: integers and fractions too
Indices: TypeAlias = NDArray[np.intp]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class ShapeError(ValueError):
    """An array has the wrong number of axes or the wrong size along one."""


class NotFiniteError(ValueError):
    """A NaN or an infinity came in, or a result left the range of its dtype."""


class DomainError(ValueError):
    """A value lies outside the set on which the function is defined."""


class TooLargeError(ValueError):
    """An array would exceed the byte limit; nothing was allocated."""


class ModelFormatError(ValueError):
    """A file does not hold what it claims to hold; nothing of it was used."""


for _error in (ShapeError, NotFiniteError, DomainError, TooLargeError, ModelFormatError):
    _error.__module__ = "jacobians"  # where users import them from, and what a traceback shows


def missing_extra(package: str, extra: str, what: str) -> ImportError:
    """Make the error for an optional package that is not installed.

    >>> missing_extra("hypothesis", "strategies", "jacobians.strategies")
    ImportError('jacobians.strategies needs hypothesis: pip install "jacobians[strategies]"')
    """
    return ImportError(f'{what} needs {package}: pip install "jacobians[{extra}]"')


# --- arrays -----------------------------------------------------------------------------------


def as_floats(
    value: Any, where: str, *, dtype: np.dtype[Any] | None = None, as_it_lies: bool = False
) -> Array:
    """Return ``value`` as a float32 or float64 array of finite numbers.

    Integers become float64, float16 float32; ``dtype`` overrules both.  What is so already comes as
    it is: who keeps it must ``freeze`` it.  Rows are contiguous, except ``as_it_lies`` in memory.

    Raises
    ------
    TypeError
        For booleans, complex numbers, long doubles, strings, objects, sparse matrices, masks.
    NotFiniteError
        With the index of the first NaN or infinity.
    ShapeError
        If the rows of a nested list differ in length.

    >>> as_floats([1, 2], "x")
    array([1., 2.])
    >>> as_floats([1.0, float("nan")], "x")
    Traceback (most recent call last):
    ...
    jacobians.NotFiniteError: x[1] is nan. Every entry must be finite.
    """
    array = as_array(value, where)
    given = array.dtype
    if not given.isnative and given.kind in "iuf":
        array = array.astype(given.newbyteorder("="))
        given = array.dtype
    if given not in FLOATS:
        if given.kind in "iu":
            array = array.astype(np.float64)
        elif given == np.float16:
            array = array.astype(np.float32)
        else:
            raise TypeError(f"{where}: {_KINDS.get(given.kind, _REAL)}, but got dtype {given}.")
    require_finite(array, where)
    if dtype is not None and array.dtype != dtype:
        with np.errstate(over="ignore", under="ignore"):
            narrowed = array.astype(dtype)
        way_out = "Rescale it, or use astype(np.float64) on the network."
        require_finite(narrowed, where, array, f", which does not fit in {dtype}. {way_out}")
        array = narrowed
    if not (as_it_lies or (array.flags.c_contiguous and array.flags.aligned)):
        array = array.copy()  # other layouts go through other kernels, which round otherwise
    return array


_REAL = "expected real numbers"
_KINDS = {
    "b": "expected numbers, not truth values (convert with .astype(float) if 0 and 1 are meant)",
    "c": "expected real numbers (take .real, or handle real and imaginary parts separately)",
    "f": "expected float32 or float64 (convert with .astype(np.float64))",
}


def as_array(value: Any, where: str) -> Numbers:
    """Turn any array-like into a plain ndarray, refusing what would lose something on the way."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise TypeError(f"{where}: masked entries have no value; fill or drop them first.")
        value = value.data
    if type(value).__module__.startswith("scipy.sparse"):
        raise TypeError(f"{where}: expected a dense array, but got a sparse one; use .toarray().")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(value, where)
    try:
        return np.asarray(value)
    except ValueError as err:
        raise ShapeError(f"{where}: rows of different lengths do not make an array.") from err


def _of_tensor(value: Any, where: str) -> Numbers:
    """Take the numbers of a torch tensor: NumPy has no bfloat16, but float32 holds it."""
    try:
        value = value.detach().cpu()
        array: Numbers = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    except Exception as err:  # sparse, quantized, or without data
        raise TypeError(f"{where}: expected a dense tensor, but got {value!r:.80}.") from err
    return array


def require_finite(
    array: Array, where: str, shown: Any = None, fault: str = ". Every entry must be finite."
) -> None:
    """Refuse NaN and infinity, showing the first one, or what stands there in another array."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0]) if array.ndim else ()
        brackets = f"[{', '.join(map(str, index))}]" if index else ""
        value = (array if shown is None else shown)[index]
        raise NotFiniteError(f"{where}{brackets} is {value}{fault}")


def read_only(array: Array) -> Array:
    """Return a view that nobody can write to by accident."""
    view = array.view()
    view.flags.writeable = False
    return view


def freeze(array: Numbers) -> Numbers:
    """Return an array that nobody can write to: a copy, unless it already is one.

    The numbers lie in ``bytes``: a flag could be set back by whoever owns the memory.

    >>> mine = np.ones(2); kept = freeze(mine); mine[0] = 7.0; kept
    array([1., 1.])
    >>> freeze(kept) is kept
    True
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if type(owner) is bytes and type(array) is np.ndarray and not array.flags.writeable:
        return array  # an unpickled array may lie in bytes and be writeable nevertheless
    return np.ndarray(array.shape, array.dtype, array.tobytes())


class Frozen:
    """A record whose arrays cannot be written to, neither here nor in its copies and pickles."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _frozen(value))


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return freeze(value)
    if type(value) is tuple:
        return tuple(_frozen(part) for part in value)
    if type(value).__module__.startswith("scipy.sparse"):
        for part in ("data", "indices", "indptr"):
            setattr(value, part, freeze(getattr(value, part)))
    return value


def require_ndim(array: Array, ndims: tuple[int, ...], where: str, demand: str) -> None:
    """Refuse an array whose number of axes is not in ``ndims``."""
    if array.ndim not in ndims:
        raise ShapeError(f"{where}: expected {demand}, but got shape {array.shape}.")


def require_shape(array: Array, shape: tuple[int, ...], where: str, hint: str = "") -> None:
    """Refuse an array that does not have exactly this shape: nothing is broadcast silently.

    >>> require_shape(np.ones((3, 1)), (3,), "Dense: b")
    Traceback (most recent call last):
    ...
    jacobians.ShapeError: Dense: b: expected shape (3,), but got (3, 1).
    """
    if array.shape != shape:
        way_out = f" {hint}" if hint else ""
        raise ShapeError(f"{where}: expected shape {shape}, but got {array.shape}.{way_out}")


def as_points(value: Any, width: int, where: str, dtype: np.dtype[Any]) -> Array:
    """Check one point ``(width,)`` or a batch of points ``(B, width)``."""
    points = as_floats(value, where, dtype=dtype)
    if points.ndim not in (1, 2) or points.shape[-1] != width:
        fits = points.ndim > 2 and prod(points.shape[1:]) == width
        raise ShapeError(
            f"{where}: expected one point of shape ({width},) or a batch of shape (B, {width}), "
            f"but got {points.shape}.{' Points are rows: X.reshape(len(X), -1).' if fits else ''}"
        )
    return points


# --- numbers ----------------------------------------------------------------------------------


def as_count(value: Any, where: str, at_least: int = 1) -> int:
    """Check a whole number that counts something.

    >>> as_count(2.5, "Commutation: rows")
    Traceback (most recent call last):
    ...
    TypeError: Commutation: rows: expected a whole number, but got 2.5.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: expected a whole number, but got {value!r}.")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: expected a whole number, but got {value!r}.") from None
    if count < at_least:
        raise ValueError(f"{where}: expected at least {at_least}, but got {count}.")
    return count


def as_flag(value: Any, where: str) -> bool:
    """Check a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: expected True or False, but got {value!r:.80}.")
    return bool(value)


def as_items(value: Any, where: str) -> tuple[Any, ...]:
    """Return the items of a list, a tuple, or whatever else has several."""
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{where}: expected a list or tuple, but got {value!r:.80}.") from None


def as_dtype(value: Any, where: str) -> np.dtype[Any]:
    """Check a dtype: float32 or float64."""
    dtype: np.dtype[Any] | None = None
    with suppress(TypeError, ValueError):
        dtype = np.dtype(value)
    if dtype is None or dtype not in FLOATS:
        raise TypeError(f"{where}: dtype: expected float32 or float64, but got {value!r:.80}.")
    return dtype


def as_nonnegative(value: Any, where: str) -> float:
    """Check a finite number that is not negative."""
    if type(value) is float and 0 <= value < np.inf:
        return value
    number = as_floats(value, where)
    if number.ndim or number < 0:
        raise ValueError(f"{where}: expected a number of at least 0, but got {value!r:.80}.")
    return float(number)


def as_positive(value: Any, where: str) -> float:
    """Check a finite number above 0."""
    number = as_nonnegative(value, where)
    if not number:
        raise ValueError(f"{where}: expected a positive number, but got {value!r:.80}.")
    return number


def as_layer(value: Any, where: str, low: int, high: int) -> int:
    """Check a layer number of the paper: ``low`` to ``high``, never counted from the end."""
    number = as_count(value, where, at_least=-(2**62))
    if not low <= number <= high:
        raise ValueError(f"{where}: expected a layer number from {low} to {high}, got {number}.")
    return number


# --- floating-point flags ---------------------------------------------------------------------


def with_flags(**flags: Any) -> Callable[[F], F]:
    """Make a decorator: the function runs with these flags of NumPy, in a context of its own.

    Setting them back could be interrupted; a context ends with its call, whatever happens.
    """

    def decorate(function: F) -> F:
        """Let the function run with these flags."""

        @wraps(function)
        def run(*args: Any, **keywords: Any) -> Any:
            return copy_context().run(flagged, *args, **keywords)

        flagged = np.errstate(**flags)(function)
        return cast(F, run)

    return decorate


# Public functions that multiply wear this: gradual underflow is rounding, which the bound of
# ``rounding`` counts, and never a reason to stop for callers who let NumPy raise.  Nor is the flag
# of an invalid operation: in small products OpenBLAS sets it for lanes of a vector that hold no
# entry, now and then; where entries are finite an invalid operation needs an overflow first, which
# is reported.
underflow_is_rounding = with_flags(under="ignore", invalid="ignore")
# Those that only call what sets flags wear this.
flags_end_with_it = with_flags()


# --- the size of dense forms ------------------------------------------------------------------

_DENSE_LIMIT: ContextVar[int] = ContextVar("dense_limit", default=2**30)


@contextmanager
def dense_limit(max_bytes: int) -> Iterator[None]:
    """Let each dense form take up to ``max_bytes`` inside the ``with`` block (default 1 GiB).

    >>> import jacobians as jb
    >>> with jb.dense_limit(100):
    ...     jb.Identity(10).to_dense()
    Traceback (most recent call last):
    ...
    jacobians.TooLargeError: Identity 10x10 float64: the dense form takes 800 bytes, ...
    """
    token = _DENSE_LIMIT.set(as_count(max_bytes, "dense_limit: max_bytes"))
    try:
        yield
    finally:
        _DENSE_LIMIT.reset(token)


def refuse_if_too_large(
    shape: tuple[int, ...], dtype: np.dtype[Any], where: object, way_out: str
) -> None:
    """Refuse a dense array above the limit, before anything is allocated."""
    size = dtype.itemsize
    for axis in shape:
        size *= axis
    limit = _DENSE_LIMIT.get()
    if size > limit:
        raise TooLargeError(
            f"{where}: the dense form takes {readable_bytes(size)}, over the limit of "
            f"{readable_bytes(limit)}. {way_out}, or raise the limit: with dense_limit({size}): ..."
        )


def readable_bytes(size: float) -> str:
    """Write a number of bytes the way people say it.

    >>> readable_bytes(512 * 2**30), readable_bytes(12), readable_bytes(2**80)
    ('512 GiB', '12 bytes', '1.05e+06 EiB')
    """
    if size < 1024:
        return f"{size:g} bytes"
    power = min((int(size).bit_length() - 1) // 10, 6)
    unit = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")[power - 1]
    return f"{size / 1024**power:.3g} {unit}"
