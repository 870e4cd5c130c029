"""Second order: Hessians in the inputs, curvature in the parameters, and posteriors.

``hessians`` multiplies the congruences of ``linearization.hessian_maps`` out, for all outputs and
points at once.  Third derivatives are left out: they need ``sigma'''`` of every activation and a
rule with three directions for every kind of layer; differences of ``hvp`` give them along one.
"""

from jacobians.second_order.hessians import hessian, hvp, value_jacobian_hessian

__all__ = ["hessian", "hvp", "value_jacobian_hessian"]
