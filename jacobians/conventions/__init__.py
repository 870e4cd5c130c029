"""The conventions of other derivations, as functions.

The library writes columns, weights target-by-source, gradients in the shape of their parameter, and
the input as layer 0.  Others write ``1 x n`` rows, weights source-by-target, or the input as layer
1.  This module translates, exactly and both ways; its products refuse what NumPy would broadcast.
The dictionary is ``paper_notes/conventions.md``; stacking rows is ``Commutation(m, n) @ vec(M)``.
"""

from jacobians.conventions.form import RowForm, from_row_form, to_row_form
from jacobians.conventions.numbering import LayerOne
from jacobians.conventions.products import as_row, from_row, hadamard, product, unvec_row
from jacobians.conventions.rows import (
    Penalty,
    RowDerivatives,
    gradients_from_rows,
    row_derivatives,
    rows_from_gradients,
    weight_row_by_kronecker,
)

__all__ = [
    "LayerOne",
    "Penalty",
    "RowDerivatives",
    "RowForm",
    "as_row",
    "from_row",
    "from_row_form",
    "gradients_from_rows",
    "hadamard",
    "product",
    "row_derivatives",
    "rows_from_gradients",
    "to_row_form",
    "unvec_row",
    "weight_row_by_kronecker",
]
