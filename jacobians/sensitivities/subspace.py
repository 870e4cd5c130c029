"""Active subspaces: the directions in which the outputs change, on average.

The eigenvectors of ``C = E[JᵀJ]``, in the order of their eigenvalues.  Along a unit vector w the
mean squared directional derivative is ``wᵀ C w``, so the first eigenvector is the direction to
which the outputs answer most, and an eigenvalue of 0 belongs to a direction to which they do not
answer at all.  Source: P. G. Constantine, *Active Subspaces* (SIAM, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jacobians._checks import Array


@dataclass(frozen=True, eq=False, repr=False)
class ActiveSubspace:
    """Eigenvalues and eigenvectors of ``E[JᵀJ]``.

    Attributes
    ----------
    eigenvalues : array, shape (n,)
        From the largest to the smallest, none below 0.
    directions : array, shape (n, n)
        Column k belongs to eigenvalue k; its largest entry is positive.
    scale : array, shape (n,)
        The unit in which each input was measured: all 1, or their standard deviations.
    input_names : tuple of str
    """

    eigenvalues: Array
    directions: Array
    scale: Array
    input_names: tuple[str, ...]

    def __repr__(self) -> str:
        shown = ", ".join(f"{share:.0%}" for share in self.explained[:3])
        return f"ActiveSubspace of {len(self.scale)} inputs: the first directions explain {shown}"

    @property
    def explained(self) -> Array:
        """Share of the sum of all eigenvalues that the first k of them have, (n,)."""
        total = self.eigenvalues.sum()
        return np.cumsum(self.eigenvalues) / (total or 1.0)

    def dimension(self, share: float = 0.99) -> int:
        """Return how many directions explain that share of the mean squared derivative."""
        return int(np.searchsorted(self.explained, share * (1 - 1e-12))) + 1

    def coordinates(self, X: Array, count: int = 1) -> Array:
        """Return the first active coordinates ``W₁ᵀ (x / scale)`` of points (B, n), (B, count).

        An input that does not vary, with scale 0, counts as 0.
        """
        moves = self.scale > 0
        scaled = np.where(moves, X, 0.0) / np.where(moves, self.scale, 1.0)
        coordinates: Array = scaled @ self.directions[:, :count]
        return coordinates


def active_subspace(C: Array, scale: Array, input_names: tuple[str, ...]) -> ActiveSubspace:
    """Diagonalise ``E[JᵀJ]`` after measuring input j in units of ``scale[j]``.

    >>> space = active_subspace(np.diag([1.0, 9.0]), np.ones(2), ("a", "b"))
    >>> space.eigenvalues, space.directions[:, 0]
    (array([9., 1.]), array([0., 1.]))
    """
    values, vectors = np.linalg.eigh(scale[:, None] * C * scale)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    # the sign of an eigenvector is free: its largest entry shall be positive
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(len(C))] < 0, -1.0, 1.0)
    return ActiveSubspace(values, vectors * signs + 0.0, scale, input_names)
