"""ONNX models as exporters write them, in every encoding; whatever cannot be read is refused."""

import gzip
from itertools import count, pairwise, product

import numpy as np
import pytest

import jacobians as jb
from jacobians.importers import from_onnx

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import END, H
from onnx_models import (
    DOUBLE,
    FLOAT,
    LAST,
    RNG,
    V,
    W,
    X,
    assert_same,
    b,
    chain,
    changed,
    evaluated,
    integers,
    op,
)

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
    """A float32 model comes in as float32, and the file is left as it is."""
    model = build()
    onnx.save(model, tmp_path / "net.onnx")
    before = model.SerializeToString()
    net = jb.load(tmp_path / "net.onnx")
    assert net.dtype == np.float32
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
    copies = chain(op("Tile", W, integers(1000, 1000)), op("MatMul", "x", X))
    with pytest.raises(jb.ModelFormatError, match=r"asks for another .* than a file of its size"):
        from_onnx(copies)


def test_a_product_may_be_scaled_after_it():
    """(x W) * s + t is one layer; where the product underflows it stays two."""
    net = from_onnx(chain(H, op("Mul", X, b), op("Sub", X, b), op("Relu", X)))
    assert [str(layer) for layer in net.layers] == ["Dense 4 -> 3 relu"]
    tiny = np.full(3, 1e-300)
    model = chain(op("MatMul", X, 1e-20 * W), op("Mul", X, tiny), op("Div", X, tiny), END)
    assert from_onnx(model).depth == 3


# --- activations that are written out -------------------------------------------------------------

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
        assert str(net) == f"Network 4-3-2 float64, 18 parameters: {name}, identity"
        # some ten roundings of numbers of order 1
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
    assert str(net) == "Network 4-3-2 float32, 18 parameters: gelu, silu"
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
    for index, step in changes:
        steps[index] = step
    return [H, *steps, END]


@pytest.mark.parametrize(
    "steps",
    [
        nearly((0, op("Div", "v0", np.array(1.5)))),
        nearly((0, op("Div", "v0", ROOT.astype("f4").astype("f8")))),
        nearly((2, op("Add", X, np.array([1.0, 1.0, 1.1])))),
        nearly((4, op("Mul", X, np.array(1.0)))),
        nearly((2, op("Sub", X, ONE))),
        nearly((3, op("Mul", "v1", X))),
        nearly((4, op("Mul", "v2", HALF))),
        [H, op("Sigmoid", X), op("Add", "v0", X)],
        [H, op("Tanh", X), op("Mul", "v0", X)],
        [H, op("Relu", X), op("Sigmoid", X), op("Mul", "v0", X)],
        [H, op("Exp", X), op("Add", X, np.array(1.5)), op("Log", X)],
    ],
    ids=count(),
)
def test_what_is_nearly_an_activation_is_computed_as_it_is_written(steps):
    net = from_onnx(chain(*steps))
    names = {layer.activation.name for layer in net.layers}
    assert not names & {"gelu", "silu", "mish", "softplus"}
    assert_same(net, chain(*steps))


def c(value):
    return np.array(float(value))


def written_out():
    """Yield activations as exporters and people write them, behind the node v0."""
    exp, log, one = op("Exp", X), op("Log", X), op("Add", X, ONE)
    yield "sigmoid", [op("Neg", X), exp, op("Add", ONE, X), op("Reciprocal", X)]
    yield "sigmoid", [op("Neg", X), exp, one, op("Div", ONE, X)]
    yield "silu", [op("Neg", X), exp, one, op("Div", "v0", X)]
    yield "softplus", [exp, one, log]
    yield (
        "softplus",
        [op("Abs", X), op("Neg", X), exp, one, log, op("Relu", "v0"), op("Add", X, "v5")],
    )
    yield "softplus", [op("Sigmoid", X), log]  # of -x, with a sign
    yield "softsign", [op("Abs", X), one, op("Div", "v0", X)]
    yield "mish", [exp, one, log, op("Tanh", X), op("Mul", X, "v0")]
    yield "mish", [op("Softplus", X), op("Tanh", X), op("Mul", "v0", X)]
    cube = [op("Pow", X, c(3)), op("Mul", X, c(0.044715)), op("Add", "v0", X)]
    rest = [
        op("Mul", X, c(np.sqrt(2 / np.pi))),
        op("Tanh", X),
        one,
        op("Mul", "v0", X),
        op("Mul", X, HALF),
    ]
    yield "gelu_tanh", [*cube, *rest]
    square = [op("Mul", X, X), op("Mul", "v0", X), op("Mul", X, c(0.044715)), op("Add", "v0", X)]
    yield "gelu_tanh", [*square, *rest]
    yield "gaussian", [op("Mul", X, X), op("Neg", X), exp]
    yield "square", [op("Mul", X, X)]
    yield "square", [op("Pow", X, c(2))]
    yield "hard_sigmoid", [op("HardSigmoid", X, alpha=0.25), op("Mul", X, "v0")]


@pytest.mark.parametrize(("name", "steps"), list(written_out()), ids=count())
def test_an_activation_is_recognised_by_what_it_computes(name, steps):
    model = chain(H, *steps, END)
    net = from_onnx(model)
    names = [layer.activation.name for layer in net.layers if layer.activation.name != "identity"]
    assert names == [name]
    assert_same(net, model)


def test_a_softplus_with_a_threshold_is_one_in_float32_alone():
    """Above 20 log(1 + exp(x)) is x to the last bit of float32, and not of float64."""
    steps = [op("Exp", X), op("Add", X, ONE), op("Log", X), op("Greater", "v0", c(20))]
    steps.append(op("Where", X, "v0", "v3"))
    twenty = chain(H, *steps)
    assert_same(from_onnx(twenty), twenty)
    assert "softplus" in {str(layer.activation) for layer in from_onnx(twenty).layers}
    assert from_onnx(twenty).depth > 3
    single = [
        (k, [o.astype("f4") if isinstance(o, np.ndarray) else o for o in given], a)
        for k, given, a in [H, *steps]
    ]
    net = from_onnx(chain(*single, element=FLOAT))
    assert str(net) == "Network 4-3 float32, 12 parameters: softplus"


def test_attention_is_products_of_branches_with_a_softmax_along_the_keys():
    """softmax(Q K' / 2) V with two heads, of three tokens of width four."""
    rng = np.random.default_rng(5)
    split = [op("Reshape", X, integers(0, 3, 2, 2)), op("Transpose", X, perm=[0, 2, 1, 3])]

    def head(k, turn):
        return [op("MatMul", "v0", rng.normal(size=(4, 4))), *split]

    q, k, v = (head(j, False) for j in range(3))
    steps = [
        op("Reshape", X, integers(-1, 3, 4)),
        *(*q, *k, *v),
        op("Transpose", "v6", perm=[0, 1, 3, 2]),
        op("MatMul", "v3", X),
        op("Mul", X, HALF),
        op("Softmax", X, axis=3),
        op("MatMul", X, "v9"),
        op("Transpose", X, perm=[0, 2, 1, 3]),
        op("Reshape", X, integers(0, 3, 4)),
        op("Add", X, "v0"),
        op("LayerNormalization", X, np.linspace(0.5, 2, 4)),
        op("Flatten", X),
    ]
    model = chain(*steps, shape=("batch", 12), opset=17)
    net = from_onnx(model)
    assert_same(net, model)
    assert {type(layer).__name__ for layer in net.layers} >= {"MatrixProduct", "LayerNorm"}


# --- outputs, inputs, batches ---------------------------------------------------------------------


def two_headed():
    """A trunk with two heads; the second takes a second input."""
    steps = [
        H,
        op("Tanh", X),
        op("MatMul", "v1", V),
        op("Concat", "v1", "extra", axis=1),
        op("Sin", X),
    ]
    model = chain(*steps, more=[("extra", ("batch", 2))])
    model.graph.output.insert(0, helper.make_tensor_value_info("v2", DOUBLE, None))
    return model


def test_an_output_is_chosen_by_name_and_what_it_does_not_use_is_left_out(tmp_path):
    model = two_headed()
    first, second = from_onnx(model, "v2"), from_onnx(model, output="v4")
    assert str(first) == "Network 4-3-2 float64, 18 parameters: tanh, identity"
    assert (dict(first.inputs), dict(first.outputs)) == ({"x": slice(0, 4)}, {"v2": slice(0, 2)})
    assert dict(second.inputs) == {"x": slice(0, 4), "extra": slice(4, 6)}
    assert_same(second, changed(two_headed(), lambda m: m.graph.output.__delitem__(0)))
    onnx.save(model, tmp_path / "net.onnx")
    assert str(jb.load(tmp_path / "net.onnx", output="v2")) == str(first)
    for output, message in (
        (None, r"net.onnx: it has the outputs 'v2', 'v4'; say output=... for one of them"),
        ("v3", r"net.onnx: no output is called 'v3'; there are 'v2', 'v4'"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            jb.load(tmp_path / "net.onnx", output=output)
        assert isinstance(caught.value, jb.ModelFormatError) == (output is None)
    with pytest.raises(TypeError, match="output: expected a name, but got 5"):
        from_onnx(model, 5)
    jb.save(first, tmp_path / "net.npz")
    with pytest.raises(TypeError, match=r"load: net.npz has one output; leave output out"):
        jb.load(tmp_path / "net.npz", output="v2")


def test_nodes_may_stand_in_any_order_and_files_may_be_zipped(tmp_path):
    model = image_classifier()
    expected = from_onnx(model)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(model.SerializeToString()))
    net = jb.load(tmp_path / "net.onnx.gz")
    assert net.parameters.tobytes() == expected.parameters.tobytes()
    (tmp_path / "bomb.onnx.gz").write_bytes(gzip.compress(bytes(2**26)))
    with pytest.raises(jb.ModelFormatError, match=r"^bomb.onnx.gz: it is compressed .*gunzip"):
        jb.load(tmp_path / "bomb.onnx.gz")


@pytest.mark.parametrize("form", ["view", "flatten"])
def test_a_shape_that_is_computed_from_an_open_batch_folds_away(form):
    """x.view(x.size(0), -1) and x.view(-1, x.size(1) * x.size(2))."""
    take, zero = op("Gather", X, np.array(0)), [op("Unsqueeze", X, integers(0))]
    if form == "view":
        steps = [op("Shape", X), take, *zero, op("Concat", X, integers(-1), axis=0)]
    else:
        take = op("Gather", X, integers(1, 2))
        steps = [op("Shape", X), take, op("ReduceProd", X), op("Concat", integers(-1), X, axis=0)]
    steps = [*steps, op("Reshape", "x", X), op("MatMul", X, RNG.normal(size=(6, 5)))]
    model = chain(*steps, shape=("N", 2, 3))
    net = from_onnx(model)
    assert str(net) == "Network 6-5 float64, 30 parameters: identity"
    assert_same(net, model)


@pytest.mark.parametrize(
    "steps",
    [
        [H, op("Relu", X), END],
        [op("Sub", X, np.ones(4)), H],
        [op("Gemm", X, W, b)],
        [op("Reshape", X, integers(5, 2, 2)), op("Reshape", X, integers(-1, 4)), H],
        [op("Reshape", X, integers(-1, 2, 2)), op("MatMul", X, np.ones((2, 3)))],
    ],
    ids=count(),
)
def test_a_fixed_batch_is_read_as_points(steps):
    model = chain(*steps, shape=(5, 4))
    net = from_onnx(model)
    assert net.widths[0] == 4
    batch = np.random.default_rng(1).normal(size=(5, 4))
    expected = evaluated(model)(batch.reshape(-1))
    # sums of four products of order 1, in another order
    assert np.allclose(net(batch).reshape(-1), expected, rtol=0, atol=1e-13)


def test_where_points_of_a_fixed_batch_meet_it_is_one_function_of_all_entries():
    for steps in (
        [op("ReduceMean", X)],
        [op("Softmax", X, axis=0)],
        [op("Transpose", X), op("MatMul", X, RNG.normal(size=(5, 2)))],
        [op("Add", X, RNG.normal(size=(5, 1)))],
    ):
        model = chain(*steps, shape=(5, 4))
        net = from_onnx(model)
        assert net.widths[0] == 20
        assert_same(net, model)


@pytest.mark.parametrize(
    ("steps", "width"),
    [
        ([H], 4),
        ([op("Sub", X, np.ones(4)), op("Relu", X)], 4),
        ([op("Relu", X), op("Gemm", X, W.T.copy(), transB=1)], 4),
        ([op("Scaler", X, domain="ai.onnx.ml", offset=[0.0] * 7, scale=[1.0] * 7)], 7),
    ],
    ids=count(),
)
def test_an_open_width_is_fixed_by_the_first_weight(steps, width):
    assert from_onnx(chain(*steps, shape=(None, None))).widths[0] == width


def test_a_layer_of_rows_keeps_its_rows():
    """(784, 1) rows through one neuron each: one matrix, 784 rows."""
    model = chain(
        op("Reshape", X, integers(-1, 1)), op("MatMul", X, V.T.copy()[:1]), shape=(1, 1, 2, 2)
    )
    assert_same(from_onnx(model), model)
    assert from_onnx(model).parameter_count == V.T[:1].size


# --- classifiers and regressors of scikit-learn ---------------------------------------------------


def ml(kind, *operands, **attributes):
    return op(kind, *operands, domain="ai.onnx.ml", **attributes)


def classifier(transform):
    """Two outputs, a label and probabilities as a list of maps."""
    steps = [
        ml("Scaler", X, offset=[1.0, 0.5, -1.0, 2.0], scale=[2.0, 1.0, 0.5, 0.25]),
        ml(
            "LinearClassifier",
            X,
            outputs=2,
            coefficients=W.T.ravel().tolist(),
            intercepts=b.tolist(),
            classlabels_ints=[0, 1, 2],
            post_transform=transform,
        ),
        ml("Normalizer", "v1.1", norm="L1"),
        op("Cast", "v1", to=TensorProto.INT64),
        ml("ZipMap", "v2", classlabels_int64s=[0, 1, 2]),
    ]
    model = chain(*steps, element=FLOAT)
    model.graph.output.append(helper.make_tensor_value_info("v3", TensorProto.INT64, None))
    return model


@pytest.mark.parametrize("transform", ["SOFTMAX", "LOGISTIC"])
def test_of_a_classifier_the_probabilities_are_read(transform):
    net = from_onnx(classifier(transform), "v4").astype(np.float64)
    x = np.random.default_rng(2).normal(size=4)
    z = ((x - [1, 0.5, -1, 2]) * [2, 1, 0.5, 0.25]) @ W.astype("f4") + b.astype("f4")
    p = np.exp(z) if transform == "SOFTMAX" else 1 / (1 + np.exp(-z))
    # shares below 1, with the roundings of a sum z of order 1 to 10 in their exponent
    assert np.allclose(net(x), p / p.sum(), rtol=0, atol=1e-13)
    if transform == "SOFTMAX":  # which sums to one already
        assert [str(layer.activation) for layer in net.layers] == ["identity", "softmax"]
    with pytest.raises(jb.ModelFormatError, match=r"\(Cast\) takes 'v1', a label or an index"):
        from_onnx(classifier(transform), "v3")


def test_linear_regressors_and_scalers_are_affine():
    steps = [
        ml("Imputer", X, imputed_value_floats=[0.0], replaced_value_float=float("nan")),
        ml(
            "LinearRegressor",
            X,
            targets=3,
            coefficients=W.T.ravel().tolist(),
            intercepts=[1.0, 2.0, 3.0],
        ),
        ml("Normalizer", X, norm="L2"),
        ml("ArrayFeatureExtractor", "v2", integers(2, 0)),
    ]
    net = from_onnx(chain(*steps, element=FLOAT)).astype(np.float64)
    x = np.random.default_rng(2).normal(size=4)
    y = x @ W.astype("f4") + [1, 2, 3]
    # numbers below 1 after some ten roundings
    assert np.allclose(net(x), (y / np.linalg.norm(y))[[2, 0]], rtol=0, atol=1e-13)
    biggest = chain(ml("Normalizer", X, norm="MAX"), element=FLOAT)
    # division by 4 is exact
    assert from_onnx(biggest)(np.array([1, -4, 2, 3.0], "f4")).tolist() == [0.25, -1, 0.5, 0.75]


def test_pipelines_of_skl2onnx_agree_with_scikit_learn():
    skl2onnx = pytest.importorskip("skl2onnx")
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 4))
    kinds = [skl2onnx.common.data_types.FloatTensorType([None, 4])]
    for model, target, output in (
        (LogisticRegression(), rng.integers(0, 3, 60), "probabilities"),
        (LogisticRegression(), rng.integers(0, 2, 60), "probabilities"),
        (MLPClassifier((5,), tol=10.0), rng.integers(0, 3, 60), "probabilities"),
        (Ridge(), rng.normal(size=(60, 2)), "variable"),
    ):
        fitted = make_pipeline(StandardScaler(), model).fit(A, target)
        options = {id(fitted): {"zipmap": False}} if output == "probabilities" else None
        net = from_onnx(
            skl2onnx.to_onnx(fitted, initial_types=[("x", *kinds)], options=options), output
        )
        predict = fitted.predict_proba if output == "probabilities" else fitted.predict
        # the converter rounds the coefficients to float32
        assert np.allclose(net(A.astype("f4")), predict(A), rtol=0, atol=1e-5)


# --- the first versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "opset", "twin"),
    [
        ([op("Add", X, b, broadcast=1)], 6, [op("Add", X, b)]),
        ([op("Gemm", X, V, np.ones(2), broadcast=1)], 6, [op("Gemm", X, V, np.ones(2))]),
        ([op("Reshape", X, shape=[-1, 3])], 4, [op("Reshape", X, integers(-1, 3))]),
        ([op("Clip", X, max=0.5)], 6, [op("Clip", X, None, np.array(0.5))]),
        ([op("Cast", X, to="DOUBLE")], 5, []),
        ([op("Dropout", X, is_test=1)], 6, []),
        ([op("Concat", X, X)], 3, [op("Concat", X, X, axis=1)]),
        ([op("Relu", X, consumed_inputs=[0])], 1, [op("Relu", X)]),
        (
            [op("BatchNormalization", X, *np.ones((4, 3)), is_test=1)],
            6,
            [op("BatchNormalization", X, *np.ones((4, 3)))],
        ),
        ([op("Pad", X, paddings=[0, 1, 0, 2])], 1, [op("Pad", X, integers(0, 1, 0, 2))]),
        ([op("Softmax", X, axis=0)], 12, [op("Softmax", X)]),
    ],
    ids=count(),
)
def test_the_first_versions_of_operators_are_what_later_ones_say(steps, opset, twin):
    early = from_onnx(chain(H, *steps, opset=opset, shape=(1, 4)))
    late = from_onnx(chain(H, *twin, opset=LAST, shape=(1, 4)))
    x = np.random.default_rng(4).normal(size=4)
    assert early(x).tolist() == late(x).tolist()


def test_an_operand_of_the_first_versions_is_aligned_at_an_axis():
    model = chain(op("Mul", X, np.array([2.0, 3.0]), broadcast=1, axis=1), shape=(1, 2, 2), opset=6)
    assert from_onnx(model)(np.ones(4)).tolist() == [2, 2, 3, 3]


def test_softmax_of_several_axes_before_opset_13():
    rows = chain(op("Softmax", X, axis=1), shape=(1, 2, 3), opset=12)
    assert str(from_onnx(rows)) == "Network 6-6 float64, 0 parameters: softmax"
    late = chain(op("Softmax", X, axis=1), shape=(1, 2, 3), opset=13)
    assert any("axis" in str(layer.activation) for layer in from_onnx(late).layers)


def test_grouped_convolutions_upwards_agree_with_onnxruntime():
    """Which the evaluator of the standard does not compute."""
    runtime = pytest.importorskip("onnxruntime")
    K = RNG.normal(size=(4, 3, 3, 2)).astype("f4")
    given = {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}
    model = chain(op("ConvTranspose", X, K, **given), shape=(1, 4, 3, 2), opset=20, element=FLOAT)
    model.ir_version = 9
    session = runtime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(0).normal(size=24).astype("f4")
    (expected,) = session.run(None, {"x": x.reshape(1, 4, 3, 2)})
    # sums of six products of order 1 in float32
    assert np.allclose(from_onnx(model)(x), expected.reshape(-1), rtol=0, atol=1e-5)


def test_negative_pads_and_their_value():
    model = chain(op("Pad", X, integers(0, -1, 0, 2), np.array(1.5)))
    assert from_onnx(model)(np.array([1.0, 2, 3, 4])).tolist() == [2, 3, 4, 1.5, 1.5]
