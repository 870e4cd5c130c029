"""Pictures of Jacobians, with matplotlib (an extra: ``pip install "jacobians[plot]"``).

Every function takes plain arrays, or a network and points, and an ``ax`` to draw on; it returns the
axes.  Colours work for colour-blind readers, diverging ones are centred at zero, and names are
shown as they are, never read as formulas.

=================== ====================================================================
style               axes, colours, labels
matrices            heat_map, saliency
structures          chain, map_picture, token_blocks
statistics          bars, violins, spectrum, against_input, summary
comparisons         dots, curves, named_points
waterfalls          waterfall
lines               bends, kinks_along_line
=================== ====================================================================
"""

from jacobians.plotting.comparisons import curves, dots, named_points
from jacobians.plotting.lines import Bends, bends, kinks_along_line
from jacobians.plotting.matrices import heat_map, saliency
from jacobians.plotting.statistics import against_input, bars, spectrum, summary, violins
from jacobians.plotting.structures import chain, map_picture, token_blocks
from jacobians.plotting.waterfalls import waterfall

__all__ = [
    "Bends",
    "against_input",
    "bars",
    "bends",
    "chain",
    "curves",
    "dots",
    "heat_map",
    "kinks_along_line",
    "map_picture",
    "named_points",
    "saliency",
    "spectrum",
    "summary",
    "token_blocks",
    "violins",
    "waterfall",
]
