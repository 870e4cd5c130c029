"""Networks of single units on a directed graph, differentiated by one matrix formula."""

from jacobians.units.graph import UnitGraph

__all__ = ["UnitGraph"]
