"""What the Jacobians of a data set say about inputs and outputs.

::

    points --(window by window)--> pieces --> accumulators: sums per group, ranges, a sample
                                                   |
                                                   +--> statistics, intervals, active subspaces, ...

======================== ===========================================================================
``groups``               random groups of points; intervals by leaving each out
``accumulators``         what is kept of a data set: one class for each thing, which merges
``measures``             statistics as functions of what is kept, and their standard errors
``subspace``             eigenvalues and directions of ``E[JᵀJ]``
``dataset``              the points themselves, and the Jacobian as a whole
``statistics``           the labelled numbers, computed when they are asked for
``text``, ``exports``    a record as text; as dictionaries, JSON, data frame
``pictures``, ``page``   a record as pictures and as a page
``record``               Sensitivity: the labelled answer
``comparison``           records side by side
``pieces``               a data set in pieces of bounded memory
``streaming``            ``sensitivity(net, X)``: one pass over the points
``log_odds``             what to differentiate where probabilities are saturated
``error_bars``           ``J S Jᵀ``: the delta method
``interactions``         mean absolute second derivatives: which two inputs act together
======================== ===========================================================================
"""

from jacobians.sensitivities.comparison import Comparison, compare
from jacobians.sensitivities.error_bars import ErrorBars, error_bars
from jacobians.sensitivities.log_odds import log_odds
from jacobians.sensitivities.record import Sensitivity
from jacobians.sensitivities.streaming import sensitivity
from jacobians.sensitivities.subspace import ActiveSubspace

__all__ = [
    "ActiveSubspace",
    "Comparison",
    "ErrorBars",
    "Sensitivity",
    "compare",
    "error_bars",
    "log_odds",
    "sensitivity",
]
