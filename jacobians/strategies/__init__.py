"""Property tests of your own derivatives: strategies for Hypothesis, and a conformance kit.

``check_backprop(my_function)`` and ``check_jacobian_rule(my_layer)`` draw networks, run every law,
shrink, and raise an ``AssertionError`` with the smallest failing network and its diagnosis; each
is one line of a test.  The strategies are for tests of another kind.

>>> import jacobians as jb
>>> from jacobians import strategies as jst
>>> def mine(net, X, Y):
...     return jb.backprop.gradients(net, X, Y, jb.SquaredError())
>>> jst.check_backprop(mine, examples=20)
"""

from jacobians.strategies.drawing import (
    HIDDEN,
    PIECEWISE_LINEAR,
    SMOOTH,
    Problem,
    activations,
    batches,
    entries,
    exact_networks,
    ill_scaled_networks,
    linear_maps,
    losses,
    matrices,
    networks,
    points,
    problems,
    vectors,
    whole_points,
    widths,
)

from jacobians.strategies.conformance import (  # isort: skip  (drawing names the extra)
    check_backprop,
    check_jacobian_rule,
    check_named,
)

__all__ = [
    "HIDDEN",
    "PIECEWISE_LINEAR",
    "SMOOTH",
    "Problem",
    "activations",
    "batches",
    "check_backprop",
    "check_jacobian_rule",
    "check_named",
    "entries",
    "exact_networks",
    "ill_scaled_networks",
    "linear_maps",
    "losses",
    "matrices",
    "networks",
    "points",
    "problems",
    "vectors",
    "whole_points",
    "widths",
]
