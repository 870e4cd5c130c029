"""Networks, limits and plans that send the engine down every path."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest
from hypothesis import strategies as st
from test_laws_of_jacobians import orders
from zoo import NETWORKS as ZOO

import jacobians as jb
from jacobians.program import Limits, Op

NETWORKS = {name: net for name, net in ZOO.items() if not name.startswith(("sqrt", "log hidden"))}
every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())

EXTREMES = {
    "table": (0, 10**9),
    "live": (0, 10**9),
    "written_out": (0, 10**9),
    "serial": (1, 30, 10**9),
    "copy": (0, 10**9),
    "apply_bytes": (1, 2**22),
    "rows": (1, 10**9),
}


@st.composite
def paths(draw):
    """Draw a value for every limit, a number of threads, and kept memory or new."""
    limits = {name: draw(st.sampled_from(values)) for name, values in EXTREMES.items()}
    warm = draw(st.sampled_from([0, 10**9]))
    return Limits(**limits), draw(st.sampled_from([1, 2, 3])), warm


def drawn_plan(data, net, B, limits=None, threads=1):
    """Draw a plan with any order, number of threads and size of pieces."""
    plan = jb.plan(net, B, limits=limits)
    piece = data.draw(st.integers(1, max(B, 1)))
    changes = {"threads": threads, "allowed": threads, "piece": piece}
    plan = replace(plan, **changes, runners=WeakKeyDictionary())
    if plan.association is None:
        return plan
    return plan.in_order(data.draw(orders(len(plan.names))))


def operations(net, B, **choice):
    """Name the operations of the program of a network, the forward pass left out."""
    plan = jb.plan(net, B, **choice)
    return [s.op.name for s in plan.program(net, False).steps if s.op >= Op.MULTIPLY_SLOPES]
