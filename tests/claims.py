"""The two ways in which numbers may agree: bit for bit, or within a proved bound."""

import numpy as np


def assert_equal(left, right):
    """Bit for bit (0 and -0 count as equal)."""
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape, f"shapes {left.shape} and {right.shape}"
    assert np.array_equal(left, right), f"differ by up to {np.abs(left - right).max()}"


def assert_within(left, right, bound):
    """Entry by entry within a bound; NaN is not within anything."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    assert left.shape == right.shape, f"shapes {left.shape} and {right.shape}"
    difference = np.abs(left - right)
    ok = difference <= bound
    assert ok.all(), f"difference {difference[~ok].max()} against a bound of {np.max(bound)}"


def product_bound(*factors, extra=0):
    """Bound the difference of two computations of a product of arrays in float64."""
    from jacobians.maps import Matrix
    from jacobians.rounding import chain_bound

    return chain_bound([Matrix(np.atleast_2d(F)) for F in factors], np.float64).pair(extra)
