"""Around every public call: floating-point flags raise, and the caller's arrays keep their bytes.

``install`` wraps the functions of the face and the methods of its classes, once, before any test
runs.  Only the outermost call is guarded: what the library does inside is under its own settings,
and that it sets them where a flag is expected is what is tested.
"""

import functools
import hashlib
import inspect
import threading

import numpy as np
import scipy.sparse

import jacobians as jb

HOMES = (jb, jb.backprop, jb.conventions, jb.explicit, jb.witness)
RAW = {"apply"}  # asks no questions: the public way into a map is @
DUNDERS = {"__init__", "__call__", "__matmul__", "__rmatmul__", "__repr__", "__str__"}
_inside = threading.local()


def fingerprints(value):
    """Yield a hash of the bytes of every array in an argument, however deeply nested."""
    if isinstance(value, np.ndarray):
        if not value.dtype.hasobject:
            flat = np.ascontiguousarray(np.asarray(value)).reshape(-1)
            yield hashlib.sha256(flat.view(np.uint8)).hexdigest()  # of the bytes, not of a copy
    elif scipy.sparse.issparse(value):
        yield from fingerprints(value.tocoo().data)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from fingerprints(item)
    elif isinstance(value, dict):
        yield from fingerprints(list(value.values()))


def guarded(function):
    """Return the function with the guard around its outermost calls."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if getattr(_inside, "call", False):
            return function(*args, **kwargs)
        read_only = [*args, *(value for name, value in kwargs.items() if name != "out")]
        before = list(fingerprints(read_only))
        _inside.call = True
        try:
            with np.errstate(all="raise"):
                return function(*args, **kwargs)
        finally:
            _inside.call = False
            changed = list(fingerprints(read_only)) != before
            if changed:  # also where the call has raised
                raise AssertionError(f"{function.__qualname__} changed an array of its caller")

    return call


def install():
    """Guard every function of the face, and every method of its classes."""
    for name in jb.__all__:  # names load on their first use
        getattr(jb, name)
    for home in HOMES:
        for name, thing in list(vars(home).items()):
            if name.startswith("_") or not getattr(thing, "__module__", "").startswith("jacobians"):
                continue
            if inspect.isfunction(thing):
                defining = inspect.getmodule(thing)
                wrapped = guarded(thing)
                setattr(home, name, wrapped)
                if getattr(defining, name, None) is thing:
                    setattr(defining, name, wrapped)  # so that it can still be pickled by name
            elif inspect.isclass(thing) and not issubclass(thing, BaseException):
                _guard_methods(thing)


def _guard_methods(cls):
    for name, attribute in list(vars(cls).items()):
        if name in RAW or (name.startswith("_") and name not in DUNDERS):
            continue
        if inspect.isfunction(attribute):
            setattr(cls, name, guarded(attribute))
        elif isinstance(attribute, property):
            setattr(cls, name, property(guarded(attribute.fget), doc=attribute.__doc__))
        elif isinstance(attribute, functools.cached_property):
            attribute.func = guarded(attribute.func)
