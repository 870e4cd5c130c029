"""Linearization: from a trace to structured maps.

At a point every node is a linear map of the nodes it reads, and the network is their product along
a path, their sum where branches meet.  ``rules`` is the page on which every kind of layer states
its map; ``chain`` composes them.
"""

from jacobians.linearization.chain import Linearization, linearize
from jacobians.linearization.rules import activation_map, layer_map, parameter_maps

__all__ = ["Linearization", "activation_map", "layer_map", "linearize", "parameter_maps"]
