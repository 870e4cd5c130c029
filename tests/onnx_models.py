"""ONNX models made by hand, and what the standard's own evaluator says of them."""

import numpy as np
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_erf
from scipy.special import erf

import jacobians as jb
from jacobians.importers.onnx_files import OPSETS

LAST = min(OPSETS[1], defs.onnx_opset_version())
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
RNG = np.random.default_rng(11)
W, b, V = RNG.normal(size=(4, 3)), RNG.normal(size=3), RNG.normal(size=(3, 2))


class X:
    """Stands among the operands for what the step before gives."""


def op(kind, *operands, **attributes):
    """One step of a chain; operands are X, arrays, None where one is left out, or names."""
    return kind, operands, attributes


def chain(*steps, shape=("batch", 4), opset=LAST, element=DOUBLE, output=None, more=()):
    """Make a model of steps one after the other, with arrays as initializers.

    Step k gives ``v{k}``; ``more`` are further inputs, as (name, shape).  A step may give several
    values: ``outputs=2`` gives ``v{k}`` and ``v{k}.1``.
    """
    nodes, initializers, value = [], [], "x"
    for k, (kind, operands, given) in enumerate(steps):
        attributes = dict(given)
        outputs = [f"v{k}", *(f"v{k}.{j}" for j in range(1, attributes.pop("outputs", 1)))]
        names = []
        for operand in operands:
            if isinstance(operand, np.ndarray):
                initializers.append(numpy_helper.from_array(operand, f"c{len(initializers)}"))
                operand = initializers[-1].name
            names.append(value if operand is X else operand or "")
        nodes.append(helper.make_node(kind, names, outputs, name=f"step{k}", **attributes))
        value = outputs[0]
    inputs = [("x", shape), *more]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, element, sizes) for name, sizes in inputs],
            [helper.make_tensor_value_info(value, element, output)],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)],
    )


def changed(model, change):
    change(model)
    return model


def integers(*values):
    return np.array(values, np.int64)


op_erf.Erf._run = lambda self, x: (erf(x),)  # the evaluator's own rounds to float32


def evaluated(model):
    """Return the model as a function of one vector, computed by onnx itself at a batch of one."""
    session = ReferenceEvaluator(model)
    ports = {
        port.name: [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
        for port in model.graph.input
    }
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in ports.values())])

    def function(x):
        parts = {
            name: x[start:stop].reshape(shape)
            for (name, shape), start, stop in zip(ports.items(), ends, ends[1:], strict=False)
        }
        return np.asarray(session.run(None, parts)[0], np.float64).reshape(-1)

    return function


def assert_same(net, model, scale=1.0, points=4):
    """Values to some roundings of sums of few terms; the Jacobian is what differences of it say."""
    function = evaluated(model)
    for x in scale * np.random.default_rng(3).normal(size=(points, net.widths[0])):
        expected = function(x)
        gap = np.abs(net(x) - expected).max(initial=0)
        assert gap <= 1e-13 * max(1, np.abs(expected).max(initial=0))
    check = jb.witness.check_jacobian(function, np.asarray(jb.linearize(net, x).jacobian()), x)
    assert check.holds, check
