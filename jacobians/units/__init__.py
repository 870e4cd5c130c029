"""Networks of single units on a directed graph, differentiated by one matrix formula.

=================== =====================================================================
edges               reading edges from matrices, names and layers; what is refused, by name
walks               the order of the units: level by level, or round and round to a fixed point
gradients           the gradients of an objective and the identities between them
linearization       derivatives at a point: total derivatives, paths, one sweep back
graph               UnitGraph: units, edges, values
=================== =====================================================================
"""

from jacobians.units.graph import UnitGraph

__all__ = ["UnitGraph"]
