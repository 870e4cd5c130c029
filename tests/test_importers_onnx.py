"""ONNX models come in with the values of the standard's own evaluator, and with their slopes."""

import tracemalloc
from itertools import count, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_onnx
from jacobians.importers.onnx_files import OPSETS

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_erf
from scipy.special import erf

LAST = min(OPSETS[1], defs.onnx_opset_version())
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
RNG = np.random.default_rng(11)
W, b, V = RNG.normal(size=(4, 3)), RNG.normal(size=3), RNG.normal(size=(3, 2))


class X:
    """Stands among the operands for what the step before gives."""


def op(kind, *operands, **attributes):
    """One step of a chain; operands are X, arrays, None where one is left out, or names."""
    return kind, operands, attributes


def chain(*steps, shape=("batch", 4), opset=LAST, element=DOUBLE, output=None):
    """Make a model of steps one after the other, with arrays as initializers."""
    nodes, initializers, value = [], [], "x"
    for k, (kind, operands, attributes) in enumerate(steps):
        names = []
        for operand in operands:
            if isinstance(operand, np.ndarray):
                initializers.append(numpy_helper.from_array(operand, f"c{len(initializers)}"))
                operand = initializers[-1].name
            names.append(value if operand is X else operand or "")
        outputs = [f"v{k}"]
        nodes.append(helper.make_node(kind, names, outputs, name=f"step{k}", **attributes))
        value = outputs[0]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", element, shape)],
            [helper.make_tensor_value_info(value, element, output)],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )


def changed(model, change):
    change(model)
    return model


@pytest.fixture(autouse=True)
def _erf_in_float64(monkeypatch):
    """The evaluator's own rounds to float32."""
    monkeypatch.setattr(op_erf.Erf, "_run", lambda self, x: (erf(x),))


def evaluated(model):
    """Return the model as a function of one vector, computed by onnx itself."""
    session = ReferenceEvaluator(model)
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    return lambda x: session.run(None, {"x": x.reshape(shape)})[0].reshape(-1)


def assert_same(net, model, scale=1.0):
    """Values to some roundings of sums of few terms; the Jacobian is what differences of it say."""
    function = evaluated(model)
    for x in scale * np.random.default_rng(3).normal(size=(4, net.widths[0])):
        expected = function(x)
        assert np.abs(net(x) - expected).max() <= 1e-13 * max(1, np.abs(expected).max())
    found = jb.witness.check_jacobian(function, jb.jacobian(net, x), x)
    assert found.holds, found


# --- every version of every operator --------------------------------------------------------------

H = op("MatMul", X, W)  # a hidden vector of shape (1, 3), for what needs no other operand
END = op("MatMul", X, V)


def plain(kind, *variants):
    """Return an operator of one input, with each choice of attributes."""
    return lambda opset: [[H, op(kind, X, **given), END] for given in variants or ({},)]


def integers(*values):
    return np.array(values, np.int64)


def either(opset, since, kind, name, value):
    """Return a step whose list of integers is an operand since some opset, an attribute before."""
    if opset < since:
        return op(kind, X, **{name: list(value)})
    return op(kind, X, integers(*value))


def arithmetic(kind):
    c, one, column = RNG.uniform(1, 2, size=3), np.array(1.5), RNG.uniform(1, 2, size=(1, 1))
    chains = [[H, op(kind, X, part), END] for part in (c, c[None], c[None, None], one, column)]
    if kind != "Div":
        chains += [[H, op(kind, part, X), END] for part in (c, one)]
    if kind in ("Add", "Sub"):  # twice, which may not be folded into one bias inexactly
        chains.append([H, op(kind, X, c), op(kind, X, 1e-9 * c), END])
    return lambda opset: chains


def gemm(opset):
    yield [op("Gemm", X, W, b)]
    yield [op("Gemm", X, W.T.copy(), b, transB=1), op("Gemm", X, V, np.ones((1, 1)))]
    yield [op("Gemm", X, W, b, alpha=0.7, beta=-1.3), END]
    yield [op("Gemm", X, W, np.array([[0.25]]), beta=2.0)]
    if opset >= 11:
        yield [op("Gemm", X, W, alpha=2.0)]


def clip(opset):
    for low, high in ((-0.5, 1.5), (0.0, None), (None, 0.25), (None, None), (0.0, 6.0)):
        if opset < 11:
            given = {"min": low, "max": high}
            yield [H, op("Clip", X, **{k: v for k, v in given.items() if v is not None}), END]
        else:
            ends = [None if end is None else np.array(end) for end in (low, high)]
            yield [H, op("Clip", X, *ends), END]


def batch_normalization(opset):
    parts = [*RNG.normal(size=(3, 3)), RNG.uniform(0.5, 2, size=3)]
    yield [H, op("BatchNormalization", X, *parts), END]
    yield [H, op("BatchNormalization", X, *parts, epsilon=0.01), END]


def dropout(opset):
    if opset < 12:
        return [[H, op("Dropout", X, ratio=0.25), END]]
    return [[H, op("Dropout", X, np.array(0.25)), END], [H, op("Dropout", X), END]]


def flatten(opset):
    yield [H, op("Flatten", X), END]
    yield [H, op("Flatten", X, axis=0), END]
    if opset >= 11:
        yield [H, op("Flatten", X, axis=-1), END]


def reshape(opset):
    yield [H, op("Reshape", X, integers(1, -1)), END]
    yield [H, op("Reshape", X, integers(0, 1, 3)), op("Reshape", X, integers(3)), END]
    if opset >= 14:
        yield [H, op("Reshape", X, integers(1, 3), allowzero=1), END]


def squeeze(opset):
    yield [H, op("Squeeze", X), END]
    yield [H, either(opset, 13, "Squeeze", "axes", [0]), END]


def unsqueeze(opset):
    yield [H, either(opset, 13, "Unsqueeze", "axes", [0, 2]), op("Flatten", X), END]
    if opset >= 11:
        yield [H, either(opset, 13, "Unsqueeze", "axes", [-2]), END]


def transpose(opset):
    yield [H, op("Transpose", X), op("Flatten", X, axis=0), END]
    yield [H, op("Transpose", X, perm=[0, 1]), END]
    yield [op("Transpose", W.T.copy()), op("MatMul", "x", X)]


def matmul(opset):
    yield [H, END]
    yield [op("MatMul", X, RNG.normal(size=4))]


def cast(opset):
    yield [H, op("Cast", X, to=DOUBLE), END]


def constant(opset):
    tensor = numpy_helper.from_array(b, "b")
    yield [op("Constant", value=tensor), op("MatMul", "x", W), op("Add", X, "v0")]
    if opset >= 12:
        for given in ({"value_float": 2.0}, {"value_floats": [1.0, 2.0, 4.0]}):
            double = op("Cast", X, to=DOUBLE)  # constants are computed on the way in
            yield [op("Constant", **given), double, op("MatMul", "x", W), op("Mul", X, "v1")]
        yield [op("Constant", value_ints=[1, 3]), op("MatMul", "x", W), op("Reshape", X, "v0")]


def softmax(kind):
    def chains(opset):
        yield from plain(kind, {}, {"axis": 1})(opset)
        if opset >= 11:
            yield [H, op(kind, X, axis=-1), END]

    return chains


CASES = {
    "Constant": constant,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Identity": plain("Identity"),
    "Gemm": gemm,
    "MatMul": matmul,
    **{kind: arithmetic(kind) for kind in ("Add", "Sub", "Mul", "Div")},
    "Neg": plain("Neg"),
    "BatchNormalization": batch_normalization,
    "Dropout": dropout,
    "Cast": cast,
    "Relu": plain("Relu"),
    "LeakyRelu": plain("LeakyRelu", {}, {"alpha": 0.3}, {"alpha": -0.5}),
    "PRelu": lambda opset: [[H, op("PRelu", X, np.full(n, 0.3)), END] for n in (1, 3)],
    "Elu": plain("Elu", {}, {"alpha": 1.5}),
    "Celu": plain("Celu", {}, {"alpha": 0.5}),
    "Selu": plain("Selu", {}, {"alpha": 1.5, "gamma": 2.0}),
    "Gelu": plain("Gelu"),
    "Swish": plain("Swish", {}),
    "Mish": plain("Mish"),
    "Sigmoid": plain("Sigmoid"),
    "HardSigmoid": plain("HardSigmoid", {}, {"alpha": 0.3, "beta": 0.4}),
    "Tanh": plain("Tanh"),
    "Clip": clip,
    "Softplus": plain("Softplus"),
    "Softsign": plain("Softsign"),
    "Exp": plain("Exp"),
    "Sin": plain("Sin"),
    "Softmax": softmax("Softmax"),
    "LogSoftmax": softmax("LogSoftmax"),
}


def test_every_operator_is_tried():
    assert set(CASES) == set(IMPORTABLE["from_onnx"])


HISTORY = {
    kind: {s.since_version for s in defs.get_all_schemas_with_history() if s.name == kind}
    for kind in CASES
}


def versions(kind):
    """Return the opsets in which an operator changed, the first and the last of those read."""
    changed = {since for since in HISTORY[kind] if OPSETS[0] < since <= LAST}
    first = {OPSETS[0]} if min(HISTORY[kind]) <= OPSETS[0] else set()
    return sorted(first | changed | {LAST})


@pytest.mark.parametrize(
    ("kind", "opset"), [(kind, opset) for kind in CASES for opset in versions(kind)]
)
def test_every_version_of_every_operator(kind, opset):
    for steps in CASES[kind](opset):
        model = chain(*steps, opset=opset)
        net = from_onnx(model)
        assert net.dtype == np.float64
        if kind == "BatchNormalization" and opset < 14:  # which the evaluator computes for training
            model = chain(*steps, opset=14)
        assert_same(net, model, scale=2)


def test_gelu_has_two_forms():
    """The evaluator writes the constants of the second in float32, so only its name is compared."""
    net = from_onnx(chain(H, op("Gelu", X, approximate="tanh")))
    assert str(net) == "Network 4-3 float64, 15 parameters: gelu_tanh"


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_before_opset_13_takes_all_axes_from_its_axis_on(kind):
    late = from_onnx(chain(H, op(kind, X, axis=1)))
    for opset in (7, 11, 12):
        early = from_onnx(chain(H, op(kind, X, axis=0), opset=opset))
        assert np.array_equal(early(np.ones(4)), late(np.ones(4)))
    with pytest.raises(
        jb.ModelFormatError, match=r"axis 0 of shape \(1, 3\), which is not the whole"
    ):
        from_onnx(chain(H, op(kind, X, axis=0), opset=13))


# --- models as exporters write them ---------------------------------------------------------------


def relu_chain(*widths):
    """Return steps x @ W + b, relu, x @ W + b, ... in float32."""
    rng = np.random.default_rng(0)
    steps = []
    for n, m in pairwise(widths):
        W, b = rng.normal(size=(n, m)) / np.sqrt(n), rng.normal(size=m)
        steps += [op("MatMul", X, W.astype("f4")), op("Add", X, b.astype("f4")), op("Relu", X)]
    return steps[:-1]


def controller():
    """An offset, then products and biases by themselves, opset 8."""
    offset = op("Sub", X, RNG.normal(size=(1, 1, 1, 5)).astype("f4"))
    steps = [offset, op("Flatten", X), *relu_chain(5, 7, 6, 4)]
    return chain(*steps, shape=(1, 1, 1, 5), opset=8, element=FLOAT, output=(1, 4))


def image_classifier():
    """A normalisation by constants that are nodes, then Gemms, opset 9."""
    W, V = (RNG.normal(size=shape).astype("f4") for shape in ((6, 20), (3, 6)))
    mean, deviation = (
        numpy_helper.from_array(np.full((1, 1, 1, 1), value, "f4")) for value in (0.1307, 0.3081)
    )
    steps = [
        op("Constant", value=mean),
        op("Sub", "x", "v0"),
        op("Constant", value=deviation),
        op("Div", "v1", "v2"),
        op("Flatten", X),
        op("Gemm", X, W, RNG.normal(size=6).astype("f4"), transB=1),
        op("Sigmoid", X),
        op("Gemm", X, V, RNG.normal(size=3).astype("f4"), transB=1),
    ]
    return chain(*steps, shape=(1, 1, 4, 5), opset=9, element=FLOAT, output=(1, 3))


def columns():
    """W @ x for one point without a batch axis, and for a column."""
    steps = [
        op("MatMul", RNG.normal(size=(3, 2)).astype("f4"), X),
        op("Add", RNG.normal(size=3).astype("f4"), X),
        op("Relu", X),
        op("Unsqueeze", X, integers(1)),
        op("MatMul", RNG.normal(size=(4, 3)).astype("f4"), X),
    ]
    return chain(*steps, shape=(2,), opset=14, element=FLOAT, output=(4, 1))


def in_float64(model):
    """Return the model with the same numbers and everything computed in float64."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    given = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in [*model.graph.initializer, *given]:
        if tensor.data_type == FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for entry in [*model.graph.input, *model.graph.output]:
        entry.type.tensor_type.elem_type = DOUBLE
    return model


@pytest.mark.parametrize("build", [controller, image_classifier, columns])
def test_a_float32_model_is_float32_and_exact_in_float64(build, tmp_path):
    """astype(float64) is the model in float64: 1 / 0.3081 in float32 has not been rounded."""
    model = build()
    onnx.save(model, tmp_path / "net.onnx")
    before = model.SerializeToString()
    net = jb.load(tmp_path / "net.onnx")
    assert net.dtype == np.float32
    assert_same(net.astype(np.float64), in_float64(model))
    x = np.random.default_rng(2).normal(size=net.widths[0]).astype("f4")
    # both sum the same few products of order 1 in float32, in whatever order
    assert np.allclose(net(x), evaluated(model)(x), rtol=0, atol=1e-5)
    assert model.SerializeToString() == before


def test_weights_may_be_inputs_of_the_graph_too():
    """As they were until IR version 4."""
    model = controller()
    for tensor in model.graph.initializer:
        entry = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(entry)
    assert str(from_onnx(model)) == str(from_onnx(controller()))


def test_two_biases_are_folded_where_that_is_exact():
    net = from_onnx(chain(H, op("Add", X, b), op("Tanh", X), op("Mul", X, b), op("Add", X, b)))
    assert [str(layer) for layer in net.layers] == ["Dense 4 -> 3 tanh", "Scale 3"]


def test_one_weight_may_stand_in_many_nodes_but_not_in_any_number():
    """Each layer has its own copy: a thousand nodes could ask for a thousand times the file."""

    def repeated(size, count):
        model = chain(*[op("MatMul", X, "w")] * count, shape=(1, size))
        model.graph.initializer.append(numpy_helper.from_array(np.eye(size)[::-1].copy(), "w"))
        return model

    assert_same(from_onnx(repeated(4, 7)), repeated(4, 7))
    with pytest.raises(jb.ModelFormatError, match=r"asks for another .* than a file of its size"):
        from_onnx(repeated(200, 1000))
    casts = chain(*[op("Cast", "w", to=DOUBLE)] * 100, op("MatMul", "x", "w"), shape=(1, 300))
    casts.graph.initializer.append(numpy_helper.from_array(np.ones((300, 300), "f4"), "w"))
    with pytest.raises(jb.ModelFormatError, match=r"asks for another .* than a file of its size"):
        from_onnx(casts)


def test_a_product_may_be_scaled_after_it():
    """(x W) * s + t is one layer; where the product underflows it stays two."""
    net = from_onnx(chain(H, op("Mul", X, b), op("Sub", X, b), op("Relu", X)))
    assert [str(layer) for layer in net.layers] == ["Dense 4 -> 3 relu"]
    tiny = np.full(3, 1e-300)
    model = chain(op("MatMul", X, 1e-20 * W), op("Mul", X, tiny), op("Div", X, tiny), END)
    assert from_onnx(model).depth == 3


# --- gates that are written out -------------------------------------------------------------------

HALF, ONE, ROOT = np.array(0.5), np.array(1.0), np.array(2**0.5)


def either_way(*operands):
    return [operands, operands[::-1]]


def silus():
    """Every way to write x * sigmoid(x) behind the node v0."""
    return [[op("Sigmoid", X), op("Mul", *gate)] for gate in either_way("v0", X)]


def gelus():
    """Every way to write x/2 * (1 + erf(x/√2)) behind the node v0."""
    inner = [op("Mul", *pair) for pair in either_way("v0", np.array(0.5**0.5))]
    for divided, one in product([op("Div", "v0", ROOT), *inner], either_way(X, ONE)):
        phi = [divided, op("Erf", X), op("Add", *one)]
        for gate, half in product(either_way("v0", X), either_way(X, HALF)):
            yield [*phi, op("Mul", *gate), op("Mul", *half)]
        for half, gate in product(either_way("v0", HALF), either_way("v1", X)):
            yield [op("Mul", *half), *phi, op("Mul", *gate)]


@pytest.mark.parametrize(("name", "forms"), [("silu", silus()), ("gelu", list(gelus()))])
def test_a_gate_written_out_is_one_activation(name, forms):
    x = np.array([0.5, -1.5, 2.0, 1.0])
    for steps, opset in product(forms, (9, LAST)):
        model = chain(H, *steps, END, opset=opset)
        net = from_onnx(model)
        assert str(net) == f"Network 4-3-2 float64, 23 parameters: {name}, identity"
        assert np.allclose(net(x), evaluated(model)(x), rtol=0, atol=1e-14)
    assert_same(net, model)


def test_gates_with_constants_between_them_in_float32():
    """As PyTorch exports Linear, GELU, Linear, SiLU: constants are nodes, in float32."""

    def constant(value):
        return op("Constant", value=numpy_helper.from_array(np.array(value, "f4")))

    gelu = [
        *(constant(2**0.5), op("Div", "v0", "v1"), op("Erf", X), constant(1), op("Add", "v3", X)),
        *(op("Mul", "v0", X), constant(0.5), op("Mul", "v6", X)),
    ]
    silu = [op("MatMul", X, V.astype("f4")), op("Sigmoid", X), op("Mul", "v9", X)]
    model = chain(op("MatMul", X, W.astype("f4")), *gelu, *silu, element=FLOAT, opset=17)
    net = from_onnx(model)
    assert str(net) == "Network 4-3-2 float32, 23 parameters: gelu, silu"
    x = np.random.default_rng(2).normal(size=4).astype("f4")
    # both round sums of a few products of order 1 in float32
    assert np.allclose(net(x), evaluated(model)(x), rtol=0, atol=1e-6)


def test_a_gate_may_stand_first_and_last():
    model = chain(op("Sigmoid", X), op("Mul", "x", X))
    assert str(from_onnx(model)) == "Network 4-4 float64, 0 parameters: silu"
    assert_same(from_onnx(model), model)


def nearly(*changes):
    """Return a gelu behind v0 with some of its steps changed."""
    steps = [op("Div", "v0", ROOT), op("Erf", X), op("Add", X, ONE), op("Mul", "v0", X)]
    steps.append(op("Mul", X, HALF))
    for place, step in changes:
        steps[place] = step
    return chain(H, *steps, END)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nearly((0, op("Div", "v0", np.array(1.5)))), "gelu if a constant of it were 1.4142136"),
        (nearly((0, op("Div", "v0", ROOT.astype("f4").astype("f8")))), "of it were 1.4142136"),
        (nearly((2, op("Add", X, np.array([1.0, 1.0, 1.1])))), "a constant of it were 1: no rule"),
        (nearly((4, op("Mul", X, np.array(1.0)))), "gelu if a constant of it were 0.5: no rule"),
        (nearly((4, op("Mul", X, HALF.astype(int)))), "constant of int64; expected floating"),
        (nearly((0, op("Div", ROOT, "v0"))), "divides a constant by what is computed"),
        (nearly((2, op("Sub", X, ONE))), r"\(Erf\): this operator has no rule"),
        (nearly((3, op("Mul", "v1", X))), r"\(Erf\): this operator has no rule"),
        (nearly((4, op("Mul", "v2", HALF))), r"\(Erf\): this operator has no rule"),
        (chain(H, op("Sigmoid", X), op("Add", "v0", X)), "the graph branches"),
        (chain(H, op("Tanh", X), op("Mul", "v0", X)), "the graph branches"),
        (chain(H, op("Relu", X), op("Sigmoid", X), op("Mul", "v0", X)), "the graph branches"),
        (chain(H, op("Sigmoid", X), op("Mul", "v0", X), op("Mul", "v1", X)), "the graph branches"),
        (chain(H, op("Sigmoid", X), op("Mul", "v0", X), op("Mul", "v0", X)), "the graph branches"),
        (chain(H, op("Mul", "v2", "v0"), op("Sigmoid", "v0")), "which nothing before it gives"),
        (chain(H, op("Sigmoid", X, domain="ai.onnx.ml"), op("Mul", "v0", X)), "has no rule"),
        (chain(H, op("Sigmoid", X, alpha=1.0), op("Mul", "v0", X)), "unknown attribute 'alpha'"),
        (changed(chain(H, *silus()[0]), lambda m: m.graph.node[1].output.append("v0")), "outputs"),
        (changed(chain(H, *silus()[0]), lambda m: m.graph.node[2].output.pop()), "0 outputs"),
    ],
)
def test_what_is_nearly_a_gate_is_refused(model, message):
    with pytest.raises(jb.ModelFormatError, match=message):
        from_onnx(model)


# --- initializers in every encoding ---------------------------------------------------------------

NUMBERS = np.array([[1.5, -2.0, 0.25], [3.0, 0.0, -0.5]])  # exact in every kind of float


def tensor(kind, *, raw=None, name="w", dims=(2, 3), **fields):
    made = TensorProto(name=name, data_type=kind, dims=dims, **fields)
    if raw is not None:
        made.raw_data = raw
    return made


def halves(array):
    return array.astype("<f2").view("<u2").ravel()


def brains(array):
    return (array.astype("<f4").view("<u4") >> 16).astype("<u2").ravel()


ENCODINGS = {
    "float raw": tensor(FLOAT, raw=NUMBERS.astype("<f4").tobytes()),
    "float field": tensor(FLOAT, float_data=NUMBERS.ravel()),
    "double raw": tensor(DOUBLE, raw=NUMBERS.astype("<f8").tobytes()),
    "double field": tensor(DOUBLE, double_data=NUMBERS.ravel()),
    "float16 raw": tensor(TensorProto.FLOAT16, raw=halves(NUMBERS).tobytes()),
    "float16 field": tensor(TensorProto.FLOAT16, int32_data=halves(NUMBERS)),
    "bfloat16 raw": tensor(TensorProto.BFLOAT16, raw=brains(NUMBERS).tobytes()),
    "bfloat16 field": tensor(TensorProto.BFLOAT16, int32_data=brains(NUMBERS)),
}


def holding(weight, element=FLOAT):
    """Return a model that multiplies by one weight, given as a tensor."""
    model = chain(op("MatMul", X, "w"), shape=("batch", 2), element=element)
    model.graph.initializer.append(weight)
    return model


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_initializer_in_every_encoding(encoding):
    weight = ENCODINGS[encoding]
    net = from_onnx(holding(weight))
    assert np.array_equal(net.layers[0].W, NUMBERS.T)
    assert net.dtype == (np.float64 if weight.data_type == DOUBLE else np.float32)


@pytest.mark.parametrize(
    "shape",
    [
        tensor(TensorProto.INT64, name="s", dims=[2], raw=np.array([1, -1], "<i8").tobytes()),
        tensor(TensorProto.INT64, name="s", dims=[2], int64_data=[1, -1]),
        tensor(TensorProto.INT32, name="s", dims=[2], raw=np.array([1, -1], "<i4").tobytes()),
        tensor(TensorProto.INT32, name="s", dims=[2], int32_data=[1, -1]),
    ],
)
def test_whole_numbers_in_every_encoding(shape):
    model = chain(op("Reshape", X, "s"), op("MatMul", X, W))
    model.graph.initializer.append(shape)
    assert_same(from_onnx(model), chain(op("MatMul", X, W)))


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_widened_to_float32(element):
    weight = ENCODINGS["float16 raw" if element == TensorProto.FLOAT16 else "bfloat16 raw"]
    assert from_onnx(holding(weight, element)).dtype == np.float32


def test_a_cast_to_float64_makes_the_network_float64():
    model = chain(op("Cast", X, to=DOUBLE), H, element=FLOAT)
    assert from_onnx(model).dtype == np.float64
    model = chain(op("Cast", X, to=TensorProto.FLOAT16), op("MatMul", X, W.astype("f2")))
    assert from_onnx(model).dtype == np.float64  # the input is


def elsewhere(**said):
    """Return a float64 weight whose values are said to be in another file."""
    weight = tensor(DOUBLE, data_location=TensorProto.EXTERNAL)
    for key, value in said.items():
        weight.external_data.add(key=key, value=str(value))
    return weight


def test_weights_may_be_in_a_file_beside_the_model(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"12345678" + NUMBERS.tobytes())
    for said in ({"offset": 8}, {"offset": 8, "length": 48, "checksum": "abc"}):
        model = holding(elsewhere(location="w.bin", **said), DOUBLE)
        (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
        assert np.array_equal(jb.load(tmp_path / "net.onnx").layers[0].W, NUMBERS.T)
    with pytest.raises(jb.ModelFormatError, match=r"tensor 'w' its data is in another file; give"):
        from_onnx(model)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"location": "../w.bin"}, r"'../w.bin', which is not a file in the model's folder"),
        ({"location": "{above}/w.bin"}, "which is not a file in the model's folder"),
        ({"location": "{above}/models/short.bin"}, "which is not a file in the model's folder"),
        ({"location": "link.bin"}, "'link.bin', which is not a file in the model's folder"),
        ({"location": "absent.bin"}, "'absent.bin', which is not a file"),
        ({"location": "."}, "'.', which is not a file"),
        ({}, "'', which is not a file"),
        ({"location": "short.bin"}, r"its data is at 0..48 of 'short.bin', which holds 47 bytes"),
        ({"location": "short.bin", "offset": -1}, r"at -1..47 of"),
        ({"location": "short.bin", "offset": 2**70}, "which holds 47 bytes"),
        ({"location": "short.bin", "length": 47}, r"claims shape \(2, 3\), but 47 bytes of data"),
        ({"location": "short.bin", "offset": "x"}, "has no number as offset or length"),
        ({"location": "a\0b"}, "not a readable ONNX model"),
    ],
)
def test_weights_in_any_other_file_are_refused(said, message, tmp_path):
    """Neither a path out of the folder, nor a link, nor a file that is too short."""
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(NUMBERS.tobytes())
    (folder / "short.bin").write_bytes(NUMBERS.tobytes()[:-1])
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    if "location" in said:
        said = {**said, "location": said["location"].format(above=tmp_path)}
    model = holding(elsewhere(**said), DOUBLE)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(jb.ModelFormatError, match=message):
        jb.load(folder / "net.onnx")


# --- refusals -------------------------------------------------------------------------------------


def branching():
    return chain(H, op("Relu", X), op("Relu", "v0"))


def second(name):
    """Return a chain whose second node stands under another operator's name."""
    return chain(H, op(name, X), END)


INT8 = tensor(TensorProto.INT8, raw=b"123456")
REFUSED = [
    # operators and graphs
    (second("Erf"), r"node 2 'step1' \(Erf\): this operator has no rule here; .*IMPORTABLE"),
    (second("Sqrt"), r"node 2 'step1' \(Sqrt\)"),
    (second("HardSwish"), r"\(HardSwish\): this operator has no rule"),
    (chain(H, op("Gelu", X), opset=19), r"\(Gelu\): opset 19 has no such operator"),
    (chain(op("Scaler", X, domain="ai.onnx.ml")), "this operator of ai.onnx.ml has no rule"),
    (
        branching(),
        r"node 3 'step2' \(Relu\) takes 'v0' after node 2 .* took it: the graph branches",
    ),
    (chain(H, op("Mul", X, X)), "takes what is computed twice: the graph branches"),
    (chain(op("MatMul", "later", W)), "takes 'later', which nothing before it gives"),
    (chain(op("Relu", "v1"), op("Relu", "v0")), "takes 'v1', which nothing before it gives"),
    (changed(chain(H, END), lambda m: m.graph.node[1].output.__setitem__(0, "x")), "there is alr"),
    (changed(chain(H, END), lambda m: m.graph.node[1].output.__setitem__(0, "z")), "ends in 'z'"),
    (changed(chain(H), lambda m: m.graph.output.add(name="v0")), "its outputs are 'v0', 'v0'"),
    (changed(chain(H), lambda m: m.graph.ClearField("output")), "its outputs are none, but"),
    (changed(chain(H), lambda m: m.graph.input.add(name="y")), "has the inputs 'x', 'y'; expected"),
    (changed(chain(H), lambda m: m.graph.ClearField("input")), "has the inputs none; expected one"),
    (changed(chain(H), lambda m: m.functions.add()), "functions of the model's own"),
    (changed(chain(H), lambda m: m.graph.sparse_initializer.add()), "sparse weights"),
    (changed(chain(H), lambda m: m.graph.initializer.add(name="c0")), "two initializers have the"),
    (changed(chain(H), lambda m: m.graph.node[0].input.append("c0")), "has 3 inputs and 1 outputs"),
    (changed(chain(H), lambda m: m.graph.node[0].ClearField("output")), "and 0 outputs"),
    (changed(chain(H), lambda m: m.ClearField("opset_import")), "its opset is not given"),
    (chain(H, opset=6), r"its opset is 6; expected one from 7 to \d+. onnx.version_converter"),
    (chain(H, opset=999), "its opset is 999"),
    (onnx.ModelProto(), "its opset is not given"),
    # shapes
    (
        changed(chain(H), lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        "no shape",
    ),
    (chain(H, shape=(1, "n")), r"'x' has shape \(1, 0\); all but the batch must be given"),
    (chain(H, shape=(1, -4)), r"'x' has shape \(1, -4\)"),
    (chain(H, shape=(1,) * 64 + (4,)), "'x' has shape"),
    (chain(H, shape=(5, 4)), r"takes shape \(5, 4\), which is more than one vector; flatten"),
    (chain(H, shape=(1, 5)), r"takes 4 inputs, but the model gets 5"),
    (chain(H, output=(1, 4)), r"the output 'v0' claims shape \(1, 4\), but is of shape \(1, 3\)"),
    (chain(H, output=(3,)), r"claims shape \(3,\), but is of shape \(1, 3\)"),
    (chain(H, element=TensorProto.INT64), "'x' has element type 7; expected FLOAT, DOUBLE"),
    (chain(op("Relu", X), shape=(1, 2**62, 2**62)), None),
    (chain(op("Add", X, b[:1]), shape=(1, 2**40)), "asks for another 16 TiB of memory"),
    (chain(op("Neg", X), shape=(1, 2**40)), "asks for another 16 TiB of memory"),
    (chain(op("Selu", X), shape=(1, 2**40)), "asks for another 16 TiB of memory"),
    (
        chain(H, op("Reshape", X, integers(2, -1))),
        r"reshapes \(1, 3\) to \(2, 1\), which holds ano",
    ),
    (chain(H, op("Reshape", X, integers(0, 3), allowzero=1)), r"reshapes \(1, 3\) to \(0, 3\)"),
    (chain(H, op("Reshape", X, integers(-1, -1))), "which holds another number of entries"),
    (chain(H, op("Reshape", X, integers(0, 0, 0))), "which holds another number of entries"),
    (chain(H, op("Reshape", X, integers(*[1] * 64, 3))), "gives 65 axes; expected at most 64"),
    (chain(H, op("Reshape", X, np.ones(2))), "needs a list of whole numbers as input 2"),
    (chain(H, op("Reshape", X, integers(1, 3)[None])), "needs a list of whole numbers as input 2"),
    (chain(H, op("Reshape", W, X)), "takes what is computed elsewhere than in its first input"),
    (
        chain(H, op("Squeeze", X, integers(1))),
        r"squeezes axes \(1,\) of \(1, 3\), which are not all",
    ),
    (chain(H, op("Squeeze", X, integers(2))), r"names axis 2 of shape \(1, 3\)"),
    (chain(H, op("Unsqueeze", X, integers(0, 0))), r"names an axis twice: \(0, 0\)"),
    (chain(H, op("Flatten", X, axis=3)), r"names axis 3 of shape \(1, 3\)"),
    (chain(H, op("Flatten", X, axis=-1), opset=9), "names axis -1"),
    (
        chain(op("Transpose", X), shape=(1, 2, 2)),
        r"transposes \(1, 2, 2\) by \(2, 1, 0\), which reor",
    ),
    (chain(H, op("Transpose", X, perm=[0, 0])), r"permutes by \(0, 0\), which are not the axes"),
    # operands
    (chain(H, op("Add", X, np.ones((2, 1)))), r"would copy entries: \(1, 3\) with \(2, 1\)"),
    (chain(H, op("Add", X, np.ones(2))), r"cannot combine shapes \(1, 3\) and \(2,\)"),
    (chain(H, op("Add", X, integers(1))), "has a constant of int64; expected floating point"),
    (chain(H, op("Div", X, np.array([1.0, 0.0, 2.0]))), "divides by 0"),
    (chain(H, op("Div", b, X)), "divides a constant by what is computed, which is not affine"),
    (chain(H, op("Mul", X, np.full(3, np.nan))), r"scale\[0\] is nan"),
    (chain(H, op("Div", X, np.full(3, 5e-324))), r"scale\[0\] is inf"),
    (chain(op("MatMul", X, np.full((4, 3), np.inf))), r"weight\[0, 0\] is inf"),
    (
        chain(op("MatMul", X, W[None])),
        r"multiplies by float64 of shape \(1, 4, 3\); expected a mat",
    ),
    (chain(op("MatMul", X, W > 0)), r"multiplies by bool of shape \(4, 3\)"),
    (chain(op("MatMul", X, np.ones((4, 0)))), r"expected a weight of shape \(n_out, n_in\)"),
    (chain(op("MatMul", W, X)), r"multiplies a matrix by shape \(1, 4\); expected one column"),
    (chain(op("Gemm", X, W, transA=1)), "computes on the transpose of its input"),
    (chain(op("Gemm", W, X)), "computes on the transpose of its input"),
    (chain(op("Gemm", X, W), shape=(4,)), r"takes shape \(4,\); expected a matrix of one row"),
    (chain(op("Gemm", X, W, np.ones((1, 1, 3)))), r"adds shape \(1, 1, 3\) to"),
    (chain(op("Gemm", X, W, np.ones((2, 3)))), "would copy entries"),
    (chain(H, op("PRelu", X, np.array([0.1, 0.2, 0.3]))), "has a slope for every entry"),
    (chain(H, op("PRelu", X, X)), "computed twice"),
    (chain(H, op("PRelu", X, np.ones(0))), "has a slope for every entry"),
    (chain(H, op("Clip", X, np.ones(3))), r"has min of shape \(3,\); expected one number"),
    (chain(H, op("Clip", X, np.array(2.0), np.array(1.0))), "expected low < high"),
    (chain(H, op("HardSigmoid", X, alpha=0.0)), "has alpha=0; expected a number above 0"),
    (chain(H, op("Celu", X, alpha=-1.0)), "celu: expected alpha > 0"),
    (chain(H, op("Gelu", X, approximate="erf")), "has approximate=b'erf'; expected none or tanh"),
    (chain(H, op("Swish", X, alpha=2.0)), "has alpha=2; only 1, which is silu, has a rule"),
    (chain(H, op("Relu", X, alpha=0.1)), "has an unknown attribute 'alpha'"),
    (chain(H, op("LeakyRelu", X, alpha=1)), "has an unknown attribute 'alpha'"),
    (chain(H, op("Softmax", X, axis=2)), r"names axis 2 of shape \(1, 3\)"),
    (chain(H, op("Dropout", X, None, np.array(True))), "is in training mode; export"),
    (chain(H, op("Cast", X, to=TensorProto.INT32)), "has element type 6; expected FLOAT"),
    (
        chain(H, op("BatchNormalization", X, *np.ones((4, 3)), training_mode=1)),
        "is in training mode, or not spatial",
    ),
    (chain(H, op("BatchNormalization", X, *np.ones((4, 2)))), r"normalizes shape \(1, 3\) by \(2,"),
    (
        chain(H, op("BatchNormalization", X, *np.ones((3, 3)), np.full(3, -2.0))),
        r"scale\[0\] is nan",
    ),
    # constants
    (chain(op("Constant", value_string="a"), op("MatMul", "x", W)), "holds a value_string"),
    (chain(op("Constant"), op("MatMul", "x", W)), "must have exactly one value"),
    (chain(op("Add", W, W), op("MatMul", "x", X)), "computes on constants alone; simplify"),
    (chain(op("Cast", W, to=9), op("MatMul", "x", X)), "has element type 9"),
    (holding(INT8), "tensor 'w' holds INT8; expected one of FLOAT, DOUBLE"),
    (holding(tensor(99, raw=b"123456")), "tensor 'w' holds 99; expected one of"),
    (holding(tensor(TensorProto.STRING, string_data=[b"a"] * 6)), "tensor 'w' holds STRING"),
    (holding(tensor(DOUBLE, raw=b"1234")), r"claims shape \(2, 3\) of DOUBLE, but holds 4 bytes"),
    (holding(tensor(DOUBLE, raw=bytes(56))), r"claims shape \(2, 3\) of DOUBLE, but holds 56 b"),
    (holding(tensor(DOUBLE, raw=b"")), r"claims shape \(2, 3\) of DOUBLE, but holds 0 bytes"),
    (holding(tensor(DOUBLE, dims=[2**40, 2**40])), "asks for another .* of memory, more than a"),
    (holding(tensor(DOUBLE, dims=[2, -3], raw=b"")), r"claims shape \(2, -3\)"),
    (holding(tensor(DOUBLE, dims=[2**62] * 99)), r"claims shape \(4611686018427387904, "),
    (holding(tensor(DOUBLE, double_data=[1.0] * 5)), "claims shape .* but holds 40 bytes"),
    (holding(tensor(DOUBLE, double_data=[1.0] * 6, raw=bytes(48))), "holds its values twice"),
    (holding(tensor(TensorProto.FLOAT16, int32_data=[70000] * 6)), "outside the range of its kind"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=count())
def test_what_cannot_be_read_is_refused_by_name_and_place(model, message):
    if message is None:  # nothing to allocate, so nothing to refuse
        assert from_onnx(model).widths[0] == 2**124
        return
    with pytest.raises(jb.ModelFormatError, match=message) as caught:
        from_onnx(model)
    assert str(caught.value).startswith("from_onnx: ")


def test_the_file_is_named(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(second("Erf").SerializeToString())
    with pytest.raises(jb.ModelFormatError, match=r"^net.onnx: node 2 'step1' \(Erf\)"):
        from_onnx(path)
    for content in (b"", b"no model at all", controller().SerializeToString()[:-40]):
        path.write_bytes(content)
        with pytest.raises(jb.ModelFormatError, match=r"^net.onnx: "):
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "absent.onnx")
    with pytest.raises(TypeError, match=r"expected a path or an onnx.ModelProto, but got 5"):
        from_onnx(5)


# --- any bytes at all -----------------------------------------------------------------------------

SMALL = [
    image_classifier(),
    columns(),
    chain(*next(batch_normalization(LAST))),
    holding(ENCODINGS["float field"]),
]


def network_or_refusal(data, path):
    """Load bytes as a model: nothing but a ModelFormatError, and no memory to speak of."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert isinstance(jb.load(path), jb.Network)
    except jb.ModelFormatError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**26  # twice what from_onnx allows itself for so small a file


@settings(max_examples=300)
@given(damage=st.data(), model=st.sampled_from(SMALL))
def test_any_damage_gives_a_network_or_a_format_error(damage, model, tmp_path_factory):
    """Bytes changed, inserted or cut anywhere."""
    data = bytearray(model.SerializeToString())
    for _ in range(damage.draw(st.integers(1, 3))):
        place = damage.draw(st.integers(0, len(data) - 1))
        kind = damage.draw(st.sampled_from(["change", "insert", "cut"]))
        if kind == "change":
            data[place] = damage.draw(st.integers(0, 255))
        elif kind == "insert":
            data[place:place] = damage.draw(st.binary(max_size=4))
        else:
            del data[place : place + damage.draw(st.integers(1, 40))]
        if not data:
            break
    network_or_refusal(bytes(data), tmp_path_factory.getbasetemp() / "damaged.onnx")


numbers = st.one_of(st.integers(-4, 10), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=300)
@given(draw=st.data(), model=st.sampled_from(SMALL))
def test_lies_in_any_field_give_a_network_or_a_format_error(draw, model, tmp_path_factory):
    """Well-formed files whose sizes, kinds, names or numbers are not what they were."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for _ in range(draw.draw(st.integers(1, 3))):
        _lie(draw.draw, model)
    network_or_refusal(model.SerializeToString(), tmp_path_factory.getbasetemp() / "lies.onnx")


def _lie(draw, message):
    """Walk down to some field and set it to something of its type."""
    fields = message.DESCRIPTOR.fields
    present = [field for field, _ in message.ListFields()]
    field = draw(st.sampled_from(present * 8 + list(fields)))
    value = getattr(message, field.name)
    repeated = hasattr(value, "append") or hasattr(value, "add")
    if field.message_type is not None:
        if repeated:
            if len(value) == 0 or draw(st.integers(0, 9)) == 0:
                value.add()
            value = value[draw(st.integers(0, len(value) - 1))]
        _lie(draw, value)
        return
    kinds = {
        **dict.fromkeys((field.TYPE_FLOAT, field.TYPE_DOUBLE), st.floats(width=32)),
        field.TYPE_STRING: st.sampled_from(["", "x", "v0", "v1", "c0", "axis", "Relu", "Gemm"]),
        field.TYPE_BYTES: st.binary(max_size=20),
        field.TYPE_INT64: numbers,
        field.TYPE_UINT64: st.integers(0, 2**64 - 1),
    }
    new = draw(kinds.get(field.type, st.integers(-(2**31), 2**31 - 1) | st.integers(0, 25)))
    if field.enum_type is not None and new not in field.enum_type.values_by_number:
        new = field.enum_type.values[0].number
    if not repeated:
        setattr(message, field.name, new)
    elif len(value) and draw(st.booleans()):
        value[draw(st.integers(0, len(value) - 1))] = new
    else:
        value.append(new)
