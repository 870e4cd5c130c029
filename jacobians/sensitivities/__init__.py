"""What the Jacobians of a data set say about inputs and outputs.

::

    points --(piece by piece)--> tally: exact sums, extremes, counts, a sample
                                   |
                                   +--> statistics with intervals, active subspaces, ...

======================== ===========================================================================
``exact_sums``           sums that do not depend on the order of their terms
``bootstrap``            every point's own weights, drawn from its own bytes
``histograms``           quantiles in bounded memory
``tally``                what is kept of a data set; merges exactly
``measures``             statistics as functions of the sums
``subspace``             eigenvalues and directions of ``E[JᵀJ]``
``exports``              a record as dictionaries, JSON, data frame
``record``               Sensitivity: the labelled answer
``streaming``            ``sensitivity(net, X)``: one pass over the points
``error_bars``           ``J S Jᵀ``: the delta method
======================== ===========================================================================
"""

from jacobians.sensitivities.error_bars import ErrorBars, error_bars
from jacobians.sensitivities.record import Sensitivity
from jacobians.sensitivities.streaming import sensitivity
from jacobians.sensitivities.subspace import ActiveSubspace

__all__ = ["ActiveSubspace", "ErrorBars", "Sensitivity", "error_bars", "sensitivity"]
