"""Networks of single units on a directed graph, differentiated by one matrix formula.

=================== =====================================================================
edges               reading edges from matrices and names; what is refused, by name
walks               the order of the units: level by level, or round and round to a fixed point
gradients           the gradients of an objective and the identities between them
linearization       derivatives at a point: total derivatives, paths, one sweep back
networks            a network as a graph of units, and back
text                a graph as equations, level by level
graph               UnitGraph: units, edges, values
=================== =====================================================================
"""

from jacobians.units.graph import UnitGraph

__all__ = ["UnitGraph"]
