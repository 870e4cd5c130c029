"""Structured linear maps, an algebra closed under ``@``, ``+``, scaling and ``.T``.

It knows nothing of networks.

=================== =====================================================================
base                LinearMap: shape, apply, transpose, to_dense; ``@``, ``+``, ``.T``, ``[]``
elementary          Identity, Matrix, Diagonal, DiagonalPlusLowRank
product, sums       Product: the chain; Sum: terms side by side
kronecker           Kronecker (of maps)
selection           Selection (rows of the identity), Commutation, Duplication, Elimination
blocks              Blocks: maps beside and above one another
convolution         Convolution: a kernel at every position of a grid; Windows
graphs              Substitution in a graph; BlockDiagonal
association         the order in which a product is best multiplied out
=================== =====================================================================
"""

from jacobians._windows import Windows
from jacobians.maps.association import Association, associate, blocks_of, multiply_out
from jacobians.maps.base import LinearMap
from jacobians.maps.blocks import Blocks
from jacobians.maps.convolution import Convolution
from jacobians.maps.elementary import Diagonal, DiagonalPlusLowRank, Identity, Matrix
from jacobians.maps.graphs import BlockDiagonal, Substitution
from jacobians.maps.kronecker import Kronecker
from jacobians.maps.product import Product
from jacobians.maps.selection import Commutation, Duplication, Elimination, Selection
from jacobians.maps.sums import Sum

__all__ = [
    "Association",
    "BlockDiagonal",
    "Blocks",
    "Commutation",
    "Convolution",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Duplication",
    "Elimination",
    "Identity",
    "Kronecker",
    "LinearMap",
    "Matrix",
    "Product",
    "Selection",
    "Substitution",
    "Sum",
    "Windows",
    "associate",
    "blocks_of",
    "multiply_out",
]
