"""Every ONNX operator that is read, in chains that a reader can follow: ``CASES[kind](opset)``."""

import numpy as np
from onnx import numpy_helper
from onnx_models import DOUBLE, RNG, V, W, X, b, integers, op

H = op("MatMul", X, W)  # a hidden vector of shape (1, 3), for what needs no other operand
END = op("MatMul", X, V)


def into(*shape):
    """See a point as a value of some shape."""
    return op("Reshape", X, integers(-1, *shape))


ROWS = into(2, 3)


def kernel(*shape):
    return RNG.normal(size=shape) / 2


def plain(kind, *variants):
    """Return an operator of one input, with each choice of attributes."""
    return lambda opset: [[H, op(kind, X, **given), END] for given in variants or ({},)]


def always(*chains):
    """Return chains that are the same in every version."""
    return lambda opset: chains


def either(opset, since, kind, name, value, **more):
    """Return a step whose list of integers is an operand since some opset, an attribute before."""
    if opset < since:
        return op(kind, X, **{name: list(value)}, **more)
    return op(kind, X, integers(*value), **more)


# --- arithmetic -----------------------------------------------------------------------------------


def arithmetic(kind, *more):
    c, one, column = RNG.uniform(1, 2, size=3), np.array(1.5), RNG.uniform(1, 2, size=(1, 1))
    chains = [
        [H, op(kind, X, operand), END] for operand in (c, c[None], c[None, None], one, column)
    ]
    chains += [[H, op("Exp", X), op(kind, operand, X), END] for operand in (c, one)]
    chains += [[H, op("Exp", X), op(kind, "v0", X)], [ROWS, op("Exp", X), op(kind, X, kernel(3))]]
    if kind in ("Add", "Sub"):  # twice, which may not be folded into one bias inexactly
        chains.append([H, op(kind, X, c), op(kind, X, 1e-9 * c), END])
    return always(*chains, *more)


def several(kind):
    """An operator of two branches, and of two and a constant."""
    two = [H, op("Sin", X), op(kind, "v0", X)]
    return always(two, [H, op("Sin", X), op(kind, X, "v0", b), END], [H, op(kind, X, b), END])


def gemm(opset):
    yield [op("Gemm", X, W, b)]
    yield [op("Gemm", X, W.T.copy(), b, transB=1), op("Gemm", X, V, np.ones((1, 1)))]
    yield [op("Gemm", X, W, b, alpha=0.7, beta=-1.3), END]
    yield [op("Gemm", X, W, np.array([[0.25]]), beta=2.0)]
    if opset >= 11:
        yield [op("Gemm", X, W, alpha=2.0)]


TURNED = op("Transpose", X, perm=[0, 2, 1])
MATMUL = always(
    [H, END],
    [op("MatMul", X, kernel(4))],
    [ROWS, op("MatMul", X, kernel(3, 5)), op("Relu", X), op("Flatten", X)],
    [ROWS, op("MatMul", X, kernel(3, 5)), op("Add", X, kernel(5)), op("Mul", X, kernel(2, 1))],
    [ROWS, op("MatMul", kernel(5, 2), X), op("Flatten", X)],
    [ROWS, TURNED, op("MatMul", X, "v0"), op("Flatten", X)],
    [ROWS, TURNED, op("MatMul", "v0", X), op("Softmax", X, axis=2), op("MatMul", X, "v0")],
    [into(2, 2, 3), op("Transpose", X, perm=[0, 1, 3, 2]), op("MatMul", "v0", X)],
)
POW = always(
    *([H, op("Exp", X), op("Pow", X, np.array(p))] for p in (2.0, 3.0, 0.5, -1.5, 1.0)),
    [H, op("Pow", X, np.array(3.0))],
)


def compared(kind):
    """Where the condition holds one branch, elsewhere the other; steps have the slope 0."""
    return always(
        [H, op("Cos", X), op(kind, "v0", np.array(0.3)), op("Where", X, "v0", "v1")],
        [H, op("Cos", X), op(kind, "v0", "v1"), op("Cast", X, to=DOUBLE), op("Add", X, "v0")],
    )


def logical(kind):
    """Of constants, as they make masks."""
    truths = np.array([True, False, True]), np.array([True, True, False])
    return always([H, op(kind, *truths[: 1 + (kind != "Not")]), op("Where", X, "v0", b)])


NOT = [op("Greater", "v0", np.array(0.3)), op("Not", X), op("Where", X, "v0", b)]
WHERE = always(
    [H, op("Where", np.array([True, False, True]), X, b), END],
    [H, op("Sin", X), op("Where", np.array([[True, False, True]]), X, "v0")],
)


# --- shapes and selections ------------------------------------------------------------------------


def constant(opset):
    yield [
        op("Constant", value=numpy_helper.from_array(b, "b")),
        op("MatMul", "x", W),
        op("Add", X, "v0"),
    ]
    if opset >= 12:
        for given in ({"value_float": 2.0}, {"value_floats": [1.0, 2.0, 4.0]}):
            double = op("Cast", X, to=DOUBLE)  # constants are computed on the way in
            yield [op("Constant", **given), double, op("MatMul", "x", W), op("Mul", X, "v1")]
        yield [op("Constant", value_ints=[1, 3]), op("MatMul", "x", W), op("Reshape", X, "v0")]
        yield [op("Constant", value_int=0), op("MatMul", "x", W), op("Gather", X, "v0", axis=1)]


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


TRANSPOSE = always(
    [H, op("Transpose", X), op("Flatten", X, axis=0), END],
    [H, op("Transpose", X, perm=[0, 1]), END],
    [op("Transpose", W.T.copy()), op("MatMul", "x", X)],
    [ROWS, TURNED, op("Flatten", X)],
    [ROWS, op("Transpose", X), op("Flatten", X, axis=0)],
)


def slices(opset):
    if opset < 10:
        yield [ROWS, op("Slice", X, starts=[0, -2], ends=[1, 9], axes=[1, 2])]
        yield [ROWS, op("Slice", X, starts=[0, 1], ends=[1, 2])]
        return
    yield [ROWS, op("Slice", X, integers(0, -2), integers(1, 9), integers(1, 2))]
    yield [ROWS, op("Slice", X, integers(2), integers(-9), integers(2), integers(-2))]
    yield [ROWS, op("Slice", X, integers(0, 1), integers(1, 2))]


def splits(opset):
    step = either(opset, 13, "Split", "split", [1, 2], axis=2, outputs=2)
    yield [ROWS, step, op("Concat", "v1.1", "v1", axis=2)]
    given = {"num_outputs": 2} if opset >= 18 else {}
    yield [ROWS, op("Split", X, axis=1, outputs=2, **given), op("Sub", "v1.1", "v1")]


def pads(opset):
    for mode, around in (
        ("constant", [0, 1, 0, 0, 0, 2]),
        ("reflect", [0, 1, 2, 0, 0, 1]),
        ("edge", [0, 1, 2, 0, 0, 1]),
    ):
        yield [ROWS, either(opset, 11, "Pad", "pads", around, mode=mode)]
    if opset < 11:
        yield [ROWS, op("Pad", X, pads=[0, 2, 0, 0, 1, 0], value=1.5)]
    else:
        yield [ROWS, op("Pad", X, integers(0, 2, 0, 0, 1, 0), np.array(1.5))]
    if opset >= 18:
        yield [ROWS, op("Pad", X, integers(1, 0), np.array(2.0), integers(2))]


def resizes(opset):
    image = into(1, 2, 3)
    if opset < 11:
        yield [image, op("Resize", X, np.array([1, 1, 2, 2], "f4"), mode="nearest")]
        return
    for where, rounding in (
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("asymmetric", "ceil"),
    ):
        given = {"coordinate_transformation_mode": where, "nearest_mode": rounding}
        scales = np.array([1, 1, 2, 1.5], "f4")
        yield [image, op("Resize", X, np.zeros(0, "f4"), scales, mode="nearest", **given)]
    if opset >= 13:
        yield [image, op("Resize", X, None, None, integers(1, 1, 4, 5), mode="nearest")]


def joins(opset):
    yield [H, op("Sin", X), op("Concat", "v0", X, axis=1)]
    yield [H, op("Concat", b[None], X, V.T.copy()[:1], axis=1)]
    yield [ROWS, op("Sin", X), op("Concat", X, "v0", axis=2), op("Flatten", X)]


# --- sums, norms, windows -------------------------------------------------------------------------


def reduced(kind, since):
    """Over an axis of (1, 2, 3), over two, and over all."""

    def chains(opset):
        for axes, given in (([2], {}), ([1, 2], {"keepdims": 0}), ([1], {"keepdims": 1})):
            yield [ROWS, either(opset, since, kind, "axes", axes, **given)]
        yield [op("Reshape", X, integers(2, 1, 3)), op(kind, X)]  # over all axes

    return chains


def images(kind, *variants):
    """An operator on an image (1, 2, 4, 3)."""
    chains = [[into(2, 4, 3), op(kind, X, *operands, **given)] for operands, given in variants]
    return always(*chains)


CONV = images(
    "Conv",
    ([kernel(5, 2, 3, 2), kernel(5)], {}),
    ([kernel(4, 1, 2, 2)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ([kernel(3, 2, 2, 2)], {"dilations": [2, 1], "auto_pad": "SAME_UPPER"}),
    ([kernel(3, 2, 4, 3), kernel(3)], {}),
    ([kernel(3, 2, 6, 5)], {"pads": [1, 1, 1, 1]}),
)
CONV_TRANSPOSE = images(
    "ConvTranspose",
    ([kernel(2, 3, 3, 2), kernel(3)], {"strides": [2, 1]}),
    ([kernel(2, 2, 2, 2)], {"pads": [1, 0, 0, 1], "strides": [2, 3]}),
    ([kernel(2, 3, 2, 2)], {"output_padding": [1, 0], "strides": [2, 2]}),
)
MAX_POOL = images(
    "MaxPool",
    ([], {"kernel_shape": [2, 2]}),
    ([], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
)


def max_pools(opset):
    yield from MAX_POOL(opset)
    if opset >= 11:
        yield [into(2, 5, 3), op("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)]
        yield [into(2, 5, 3), op("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 1])]


AVERAGE_POOL = images(
    "AveragePool",
    ([], {"kernel_shape": [2, 2]}),
    ([], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ([], {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
)


def average_pools(opset):
    yield from AVERAGE_POOL(opset)
    if opset >= 19:
        given = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
        yield [into(2, 5, 3), op("AveragePool", X, pads=[1, 0, 0, 1], **given)]
        yield [into(2, 5, 3), op("AveragePool", X, count_include_pad=1, **given)]


def group_normalization(opset):
    given = {"num_groups": 2, **({"stash_type": DOUBLE} if opset >= 21 else {})}
    return [[into(4, 2), op("GroupNormalization", X, *kernel(2, 4 if opset >= 21 else 2), **given)]]


def batch_normalization(opset):
    arrays = [*RNG.normal(size=(3, 3)), RNG.uniform(0.5, 2, size=3)]
    yield [H, op("BatchNormalization", X, *arrays), END]
    yield [H, op("BatchNormalization", X, *arrays, epsilon=0.01), END]
    yield [into(3, 2), op("BatchNormalization", X, *arrays)]


def recurrent(kind, gates):
    """On a sequence of 3 rows of 2, in each direction, with and without what may be left out."""

    def chains(opset):
        sequence = op("Reshape", X, integers(3, 1, 2))
        for ways, direction in ((1, "forward"), (1, "reverse"), (2, "bidirectional")):
            weights = (
                kernel(ways, 4 * gates, 2),
                kernel(ways, 4 * gates, 4),
                kernel(ways, 8 * gates),
            )
            given = {"hidden_size": 4, "direction": direction}
            yield [sequence, op(kind, X, *weights, **given)]
            start = kernel(ways, 1, 4)
            states = [None, start, start] if kind == "LSTM" else [None, start]
            step = op(kind, X, *weights, *states, outputs=2, **given)
            yield [sequence, step, op("Tanh", "v1.1")]
        if kind == "GRU":
            yield [sequence, op(kind, X, *weights, linear_before_reset=1, **given)]

    return chains


def softmax(kind):
    def chains(opset):
        yield from plain(kind, {}, {"axis": 1})(opset)
        if opset >= 13:  # before, an axis took all those behind it along
            yield [ROWS, op(kind, X, axis=1)]
        yield [ROWS, op(kind, X, axis=2), op("Flatten", X)]

    return chains


def clip(opset):
    for low, high in ((-0.5, 1.5), (0.0, None), (None, 0.25), (None, None), (0.0, 6.0)):
        if opset < 11:
            given = {"min": low, "max": high}
            yield [H, op("Clip", X, **{k: v for k, v in given.items() if v is not None}), END]
        else:
            ends = [None if end is None else np.array(end) for end in (low, high)]
            yield [H, op("Clip", X, *ends), END]


def dropout(opset):
    if opset < 12:
        return [[H, op("Dropout", X, ratio=0.25), END]]
    return [[H, op("Dropout", X, np.array(0.25)), END], [H, op("Dropout", X), END]]


def as_evaluated(kind, steps, opset):
    """Return steps and opset that the evaluator computes as the standard says, and in float64."""
    if kind == "BatchNormalization" and opset < 14:
        return steps, 14  # it computes earlier versions for training
    if kind == "HardSwish":  # of which it takes the sixth in float32
        sixth = [op("Div", X, np.array(6.0)), op("Add", X, np.array(0.5))]
        clipped = op("Clip", X, np.array(0.0), np.array(1.0))
        return [H, *sixth, clipped, op("Mul", X, "v0"), END], opset
    return steps, opset


SHAPE_VALUE = numpy_helper.from_array(np.array([2.5]))

CASES = {
    "Constant": constant,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": TRANSPOSE,
    "Identity": plain("Identity"),
    "Concat": joins,
    "Slice": slices,
    "Split": splits,
    "Gather": always(
        [ROWS, op("Gather", X, integers(2, 0, -1), axis=2)],
        [ROWS, op("Gather", X, np.array(1), axis=1)],
        [ROWS, op("Gather", X, integers(1, 0, 1, 1).reshape(2, 2), axis=1)],
    ),
    "Expand": always([ROWS, op("Expand", X, integers(4, 1, 2, 3)), op("Cos", X)]),
    "Tile": always([ROWS, op("Tile", X, integers(1, 2, 3))]),
    "Pad": pads,
    "Trilu": always([ROWS, op("Trilu", X, upper=1)], [ROWS, op("Trilu", X, np.array(1), upper=0)]),
    "Resize": resizes,
    "Upsample": always([into(1, 2, 3), op("Upsample", X, np.array([1, 1, 2, 3], "f4"))]),
    "Shape": always([H, op("Shape", X), op("Reshape", "v0", X), op("Sin", X)]),
    "Size": always([H, op("Size", X), op("Cast", X, to=DOUBLE), op("Mul", "v0", X)]),
    "ConstantOfShape": always(
        [H, op("Shape", X), op("ConstantOfShape", X, value=SHAPE_VALUE), op("Mul", "v0", X)]
    ),
    "Range": always(
        [H, op("Range", np.array(0.0), np.array(3.0), np.array(1.0)), op("Add", "v0", X)]
    ),
    "Equal": always(
        [H, op("Equal", integers(1, 2, 3), integers(1, 5, 3)), op("Where", X, "v0", b)]
    ),
    "ReduceProd": always([H, op("ReduceProd", integers(1, 3)), op("Reshape", "v0", X)]),
    "Gemm": gemm,
    "MatMul": MATMUL,
    "Add": arithmetic("Add"),
    "Sub": arithmetic("Sub"),
    "Mul": arithmetic("Mul", [H, op("Mul", X, X)]),
    "Div": arithmetic("Div"),
    "Neg": plain("Neg"),
    **{kind: several(kind) for kind in ("Sum", "Mean", "Max", "Min")},
    "Pow": POW,
    **{kind: compared(f"{kind}") for kind in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")},
    **{kind: logical(kind) for kind in ("And", "Or")},
    "Not": lambda opset: [*logical("Not")(opset), [H, *NOT]],
    "Where": WHERE,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": always(
        [ROWS, op("LayerNormalization", X, kernel(3), kernel(3), epsilon=0.1)],
        [ROWS, op("LayerNormalization", X, kernel(2, 3), axis=1)],
    ),
    "RMSNormalization": always([ROWS, op("RMSNormalization", X, kernel(3), epsilon=0.1)]),
    "GroupNormalization": group_normalization,
    "InstanceNormalization": images("InstanceNormalization", (list(kernel(2, 2)), {})),
    "GlobalAveragePool": images("GlobalAveragePool", ([], {})),
    "GlobalMaxPool": images("GlobalMaxPool", ([], {})),
    "ReduceSum": reduced("ReduceSum", 13),
    **{
        kind: reduced(kind, 18)
        for kind in (
            "ReduceMean",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceMax",
            "ReduceMin",
        )
    },
    "Conv": CONV,
    "ConvTranspose": CONV_TRANSPOSE,
    "MaxPool": max_pools,
    "AveragePool": average_pools,
    "RNN": recurrent("RNN", 1),
    "GRU": recurrent("GRU", 3),
    "LSTM": recurrent("LSTM", 4),
    "Dropout": dropout,
    "Cast": plain("Cast", {"to": DOUBLE}),
    "Relu": plain("Relu"),
    "LeakyRelu": plain("LeakyRelu", {}, {"alpha": 0.3}, {"alpha": -0.5}),
    "PRelu": always(
        *([H, op("PRelu", X, np.full(n, 0.3)), END] for n in (1, 3)),
        [H, op("PRelu", X, np.array([0.1, -0.2, 1.3])), END],
    ),
    "Elu": plain("Elu", {}, {"alpha": 1.5}),
    "Celu": plain("Celu", {}, {"alpha": 0.5}),
    "Selu": plain("Selu", {}, {"alpha": 1.5, "gamma": 2.0}),
    "Swish": plain("Swish", {}, {"alpha": 1.7}),
    "HardSigmoid": plain("HardSigmoid", {}, {"alpha": 0.3, "beta": 0.4}),
    "Clip": clip,
    **{
        kind: plain(kind)
        for kind in (
            *("Gelu", "Mish", "HardSwish", "Sigmoid", "Tanh", "Softplus", "Softsign"),
            *("Exp", "Sin", "Cos", "Erf", "Abs", "Sign", "Floor", "Ceil"),
        )
    },
    **{kind: always([H, op("Exp", X), op(kind, X)]) for kind in ("Log", "Sqrt", "Reciprocal")},
    "Softmax": softmax("Softmax"),
    "LogSoftmax": softmax("LogSoftmax"),
}
