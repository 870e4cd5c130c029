"""vec and its relatives: the only module that knows in which order a matrix is stacked.

``vec`` stacks **columns**: entry ``(i, j)`` of an ``m x n`` matrix stands at place ``j*m + i``.
With this order ``vec(A X B) = (Bᵀ ⊗ A) vec(X)``, and for ``z = W a`` the derivative is
``dz/dvec(W) = aᵀ ⊗ I``.  Stacking rows is ``Commutation(m, n) @ vec(M) = vec(Mᵀ)``.

``vech`` keeps the lower triangle of a square matrix, column by column.

Source: J. R. Magnus and H. Neudecker, *Matrix Differential Calculus*, chapters 2 and 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jacobians._checks import Indices, Numbers, ShapeError, as_array, as_count, as_items


def vec(M: Any) -> Numbers:
    """Stack the columns of a matrix into one vector.

    Parameters
    ----------
    M : array, shape (..., m, n)
        A matrix, or a stack of matrices along leading axes.

    Returns
    -------
    array, shape (..., m*n)
        A new array of the same dtype; any dtype is accepted, ``Fraction`` objects included.

    Raises
    ------
    ShapeError
        If ``M`` has fewer than two axes.

    >>> vec([[1, 3], [2, 4]])
    array([1, 2, 3, 4])
    """
    M = as_array(M, "vec: M")
    if M.ndim < 2:
        raise ShapeError(f"vec: expected a matrix, but got shape {M.shape}.")
    *lead, m, n = M.shape
    stacked: Numbers = np.swapaxes(M, -2, -1).copy(order="C").reshape(*lead, m * n)
    return stacked


def unvec(v: Any, shape: tuple[int, int]) -> Numbers:
    """Undo ``vec``: cut a vector into columns of the given matrix.

    Parameters
    ----------
    v : array, shape (..., m*n)
    shape : (m, n)
        The number of entries does not determine it, so it must be said.

    Returns
    -------
    array, shape (..., m, n)

    Raises
    ------
    ShapeError
        If the number of entries is not ``m*n``.

    >>> unvec([1, 2, 3, 4, 5, 6], (2, 3))
    array([[1, 3, 5],
           [2, 4, 6]])
    """
    v = as_array(v, "unvec: v")
    sizes = as_items(shape, "unvec: shape")
    if len(sizes) != 2:
        raise ShapeError(f"unvec: shape: expected (m, n), but got {shape!r:.80}.")
    m, n = (as_count(size, "unvec: shape", at_least=0) for size in sizes)
    if v.ndim < 1 or v.shape[-1] != m * n:
        raise ShapeError(f"unvec: a {m}x{n} matrix has {m * n} entries, but got shape {v.shape}.")
    M: Numbers = np.swapaxes(v.reshape(*v.shape[:-1], n, m), -2, -1).copy(order="C")
    return M


def vech(S: Any) -> Numbers:
    """Stack the lower triangle of a square matrix, column by column.

    Parameters
    ----------
    S : array, shape (..., n, n)

    Returns
    -------
    array, shape (..., n*(n+1)/2)

    Raises
    ------
    ShapeError
        If ``S`` is not square.

    >>> vech([[1, 2, 4], [2, 3, 5], [4, 5, 6]])
    array([1, 2, 4, 3, 5, 6])
    """
    S = as_array(S, "vech: S")
    if S.ndim < 2 or S.shape[-1] != S.shape[-2]:
        raise ShapeError(f"vech: expected a square matrix, but got shape {S.shape}.")
    return vec(S)[..., elimination_places(S.shape[-1])]


# --- the same orders as index vectors: K, L and D of the textbooks, without the zeros ---------


def commutation_places(m: int, n: int) -> Indices:
    """Indices ``p`` with ``vec(Mᵀ) = vec(M)[p]`` for an ``m x n`` matrix.

    >>> M = np.arange(6).reshape(2, 3)
    >>> bool((vec(M)[commutation_places(2, 3)] == vec(M.T)).all())
    True
    """
    return vec(unvec(np.arange(m * n), (m, n)).T)


def elimination_places(n: int) -> Indices:
    """Indices ``p`` with ``vech(S) = vec(S)[p]``: the lower triangle, column by column.

    >>> elimination_places(3)
    array([0, 1, 2, 4, 5, 8])
    """
    return np.flatnonzero(vec(np.tri(n, dtype=bool)))


def duplication_places(n: int) -> Indices:
    """Indices ``p`` with ``vec(S) = vech(S)[p]`` for every symmetric ``S``.

    >>> duplication_places(2)
    array([0, 1, 1, 2])
    """
    place = np.zeros((n, n), dtype=np.intp)
    j, i = np.triu_indices(n)  # row by row of the upper triangle is column by column of the lower
    place[i, j] = place[j, i] = np.arange(n * (n + 1) // 2)
    return vec(place)
