"""Why this prediction: contributions of the inputs, from a baseline to a point.

============== =====================================================================================
``segments``   where a network bends between two points, in closed form
``paths``      integrals of the Jacobian between the bends, exact or by quadrature; their rounding
``writing``    rows, text, page
``record``     Explanation: the labelled answer
``explaining`` ``explain(net, x, baseline)``
============== =====================================================================================
"""

from jacobians.explanation.explaining import explain
from jacobians.explanation.record import Completeness, Explanation

__all__ = ["Completeness", "Explanation", "explain"]
