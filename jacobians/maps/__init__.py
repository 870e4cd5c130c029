"""The alphabet: structured linear maps.  This family knows nothing of networks.

=================== =====================================================================
base                LinearMap: shape, apply, transpose, to_dense; ``@``, ``.T``, ``.to_scipy()``
elementary          Identity, Matrix, Diagonal, DiagonalPlusLowRank
kronecker           Kronecker (of maps), Commutation, Duplication, Elimination
product             Product: the chain
blocks              Blocks: maps side by side and above one another
association         the order in which a product is best multiplied out
=================== =====================================================================
"""

from jacobians.maps.association import Association, associate, multiply_out
from jacobians.maps.base import LinearMap
from jacobians.maps.blocks import Blocks
from jacobians.maps.elementary import Diagonal, DiagonalPlusLowRank, Identity, Matrix
from jacobians.maps.kronecker import Commutation, Duplication, Elimination, Kronecker
from jacobians.maps.product import Product

__all__ = [
    "Association",
    "Blocks",
    "Commutation",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Duplication",
    "Elimination",
    "Identity",
    "Kronecker",
    "LinearMap",
    "Matrix",
    "Product",
    "associate",
    "multiply_out",
]
