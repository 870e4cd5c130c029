"""Linearization: from a trace to structured maps.

At a point every node is a linear map of the nodes it reads, and the network is their product along
a path, their sum where branches meet.  ``rules`` is the page on which every kind of layer states
its map, ``second_differentials`` the page of the second ones; ``chain`` composes them.
"""

from jacobians.linearization.chain import Linearization, linearize
from jacobians.linearization.rules import activation_map, layer_map, parameter_maps
from jacobians.linearization.second_differentials import (
    activation_second,
    layer_second,
    parameter_second,
    second_of_layer,
    second_of_parameters,
)

__all__ = [
    "Linearization",
    "activation_map",
    "activation_second",
    "layer_map",
    "layer_second",
    "linearize",
    "parameter_maps",
    "parameter_second",
    "second_of_layer",
    "second_of_parameters",
]
