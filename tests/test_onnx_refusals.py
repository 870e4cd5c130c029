"""ONNX models as exporters write them, in every encoding; whatever cannot be read is refused."""

import sys
import tracemalloc
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import from_onnx

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto
from onnx_cases import END, H, batch_normalization
from onnx_models import DOUBLE, FLOAT, LAST, W, X, assert_same, b, chain, changed, integers, op

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
    net = from_onnx(holding(weight, DOUBLE if weight.data_type == DOUBLE else FLOAT))
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
        ({"location": "a\0b"}, "null byte"),
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


def second(name):
    """Return a chain whose second node stands under another operator's name."""
    return chain(H, op(name, X), END)


def image(*steps):
    return chain(*steps, shape=(1, 2, 4, 3))


INT16 = tensor(TensorProto.INT16, raw=b"123456789012")
SEQUENCE = {"shape": (3, 1, 2)}
RNN = [np.ones((1, 4, 2)), np.ones((1, 4, 4))]
REFUSED = [
    # operators and graphs
    (second("TopK"), r"node 2 'step1' \(TopK\): this operator has no rule here; .*IMPORTABLE"),
    (chain(op("Scaled", X, domain="ai.onnx.ml")), "this operator of ai.onnx.ml has no rule"),
    (chain(op("MatMul", "later", W)), "takes 'later', which nothing gives"),
    (chain(H, op("Relu", "v2"), op("Relu", "v1")), r"takes 'v[12]', which depends on it"),
    (changed(chain(H, END), lambda m: m.graph.node[1].output.__setitem__(0, "x")), "there is alr"),
    (changed(chain(H, END), lambda m: m.graph.node[1].output.__setitem__(0, "z")), "nothing gives"),
    (changed(chain(H), lambda m: m.graph.ClearField("output")), "it has no output"),
    (changed(chain(H), lambda m: m.graph.ClearField("input")), "takes 'x', which nothing gives"),
    (chain(op("Identity", W)), "depends on no input: it is constant"),
    (changed(chain(H), lambda m: m.functions.add(name="MatMul")), "is a function of the model's"),
    (changed(chain(H), lambda m: m.graph.sparse_initializer.add()), "sparse weights"),
    (changed(chain(H), lambda m: m.graph.initializer.add(name="c0")), "two initializers have the"),
    (changed(chain(H), lambda m: m.ClearField("opset_import")), "its opset is not given"),
    (chain(H, opset=999), "its opset is 999; expected one from 1 to"),
    (changed(chain(H), lambda m: m.opset_import.add(version=9)), "its opset is [0-9]+ and 9"),
    (onnx.ModelProto(), "holds 0 graphs"),
    # inputs and outputs
    (
        changed(chain(H), lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        "no shape",
    ),
    (chain(op("Relu", X), shape=(1, "n")), r"'x' has shape \(1, n\); all sizes but that of the ba"),
    (chain(op("Relu", X), shape=("n",)), r"'x' has shape \(n\); all sizes .* fixed"),
    (chain(H, shape=(1, -4, 2)), r"'x' has shape \(1, -4, 2\)"),
    (chain(op("Relu", X), shape=(1,) * 64 + (4,)), "'x' has shape"),
    (
        chain(H, shape=(1, 5)),
        r"\(MatMul\) multiplies shapes \(1, 5\) and \(4, 3\), which do not fit",
    ),
    (chain(H, output=(1, 4)), r"the output 'v0' claims shape \(1, 4\), but is of shape \(1, 3\)"),
    (chain(H, output=(3,)), r"claims shape \(3,\), but is of shape \(1, 3\)"),
    (chain(H, element=TensorProto.INT64), "'x' has INT64; expected one of FLOAT, DOUBLE"),
    (chain(op("Add", X, b[:1]), shape=(1, 2**40)), "asks for another 32 TiB of memory"),
    (chain(op("Neg", X), shape=(1, 2**40)), "asks for another 32 TiB of memory"),
    (chain(op("Transpose", X), shape=(2, 2**40)), "asks for another .* of memory"),
    # the batch
    (chain(H, op("ReduceMean", X)), "goes along the axis of the batch, so that no point has a"),
    (chain(H, op("Softmax", X, axis=0)), "goes along the axis of the batch.* export with a batch"),
    (chain(H, op("MatMul", "v0", X), shape=("n", 4)), "do not fit|axis of the batch"),
    (chain(H, op("Concat", X, X, axis=0)), "goes along the axis of the batch"),
    (
        chain(
            H,
            op("Unsqueeze", "v0", integers(0)),
            op("Unsqueeze", "v0", integers(1)),
            op("Add", X, "v1"),
        ),
        "combines points of a batch",
    ),
    # shapes
    (
        chain(H, op("Reshape", X, integers(2, -1))),
        r"reshapes \(1, 3\) to \(2, 1\), which holds ano",
    ),
    (chain(H, op("Reshape", X, integers(0, 3), allowzero=1)), r"reshapes \(1, 3\) to \(0, 3\)"),
    (chain(H, op("Reshape", X, integers(-1, -1))), "which holds another number of entries"),
    (chain(H, op("Reshape", X, integers(0, 0, 0))), "which holds another number of entries"),
    (chain(H, op("Reshape", X, integers(*[1] * 64, 3))), "has 65 numbers as input 2"),
    (chain(H, op("Reshape", X, np.ones(2))), "needs a list of whole numbers as input 2"),
    (chain(H, op("Reshape", X, integers(1, 3)[None])), "needs a list of whole numbers as input 2"),
    (chain(H, op("Reshape", X, "v0")), "takes what is computed as input 2, where it must be a c"),
    (
        chain(H, op("Squeeze", X, integers(1))),
        r"squeezes axes \(1,\) of \(1, 3\), which are not all",
    ),
    (chain(H, op("Squeeze", X, integers(2))), r"names axis 2 of shape \(1, 3\)"),
    (chain(H, op("Unsqueeze", X, integers(0, 0))), r"names an axis twice: \(0, 0\)"),
    (chain(H, op("Flatten", X, axis=3)), r"names axis 3 of shape \(1, 3\)"),
    (chain(H, op("Transpose", X, perm=[0, 0])), r"permutes by \(0, 0\), which are not the axes"),
    (chain(H, op("Slice", X, integers(0), integers(2), integers(1), integers(0))), "slices by"),
    (chain(H, op("Slice", X, integers(2), integers(2), integers(1))), "which has no entries"),
    (chain(H, op("Gather", X, integers(3), axis=1)), "gathers entries 3 to 3 of 3"),
    (chain(H, op("Gather", X, np.ones(1), axis=1)), "needs whole numbers as input 2"),
    (chain(H, op("Split", X, axis=1, outputs=2), op("Relu", "v1.1"), opset=13), None),
    (
        chain(H, op("Split", X, integers(1, 1), axis=1, outputs=2)),
        r"splits axis 1 of \(1, 3\) into",
    ),
    (chain(H, op("Expand", X, integers(2, 2))), r"cannot combine shapes \(1, 3\) and \(2, 2\)"),
    (chain(H, op("Tile", X, integers(2))), r"repeats \(1, 3\) by \(2,\)"),
    (chain(H, op("Pad", X, integers(1))), "pads 2 axes by"),
    (chain(H, op("Pad", X, integers(0, 3, 0, 3), mode="reflect")), "in mode reflect"),
    (chain(H, op("Concat", X, b, axis=1)), r"joins shapes \(1, 3\), \(3,\) along axis 1"),
    (image(op("Resize", X, None, np.full(4, 2.0, "f4"), mode="area")), "resizes by area"),
    (
        image(op("Resize", X, None, np.full(4, 0.5, "f4"), mode="linear", antialias=1)),
        "resizes by linear",
    ),
    # operands
    (chain(H, op("Add", X, np.ones(2))), r"cannot combine shapes \(1, 3\) and \(2,\)"),
    (chain(H, op("Add", X, integers(1))), "has a constant of int64; expected floating point"),
    (chain(H, op("Add", X, b.astype("f4"))), "has operands of float32 and float64; the standard"),
    (chain(op("MatMul", X, W), element=FLOAT), "has operands of float32 and float64"),
    (chain(H, op("Div", X, np.array([1.0, 0.0, 2.0]))), "divides by 0"),
    (chain(H, op("Mul", X, np.full(3, np.nan))), r"scale\[.*\] is nan"),
    (chain(H, op("Div", X, np.full(3, 5e-324))), r"scale\[.*\] is inf"),
    (chain(op("MatMul", X, np.full((4, 3), np.inf))), r"weight\[0, 0\] is inf"),
    (chain(op("MatMul", X, W[None].repeat(2, 0))), "not one matrix"),
    (chain(op("MatMul", X, W > 0)), "multiplies by bool of shape"),
    (chain(op("MatMul", X, np.ones((4, 0)))), "which has no entries"),
    (chain(op("Gemm", X, W, transA=1)), "which do not fit|axis of the batch"),
    (
        chain(op("Gemm", X, W), shape=(4,)),
        r"multiplies shapes \(4,\) and \(4, 3\); expected two mat",
    ),
    (chain(op("Gemm", X, W, np.ones((1, 1, 3)))), r"adds shape \(1, 1, 3\) to"),
    (chain(op("Gemm", X, W, np.ones((2, 3)))), r"adds shape \(2, 3\) to"),
    (chain(H, op("PRelu", X, np.ones(2))), "cannot combine shapes"),
    (chain(H, op("PRelu", X, X)), "takes what is computed as input 2"),
    (chain(H, op("PRelu", X, np.ones(0))), r"has slopes of shape \(0,\)"),
    (chain(H, op("Pow", X, b)), "has no single number as exponent"),
    (chain(H, op("Pow", np.array(2.0), X)), "needs what is computed as its input 1|takes what is"),
    (chain(H, op("Clip", X, np.ones(3))), r"has min of shape \(3,\); expected one number"),
    (chain(H, op("Clip", X, np.array(2.0), np.array(1.0))), "expected low < high"),
    (chain(H, op("HardSigmoid", X, alpha=0.0)), "has alpha=0; expected a number above 0"),
    (chain(H, op("Celu", X, alpha=-1.0)), "celu: expected alpha > 0"),
    (chain(H, op("Gelu", X, approximate="erf")), "has approximate='erf'; expected none or tanh"),
    (chain(H, op("Relu", X, alpha=0.1)), "has an attribute 'alpha' that has no rule"),
    (chain(H, op("LeakyRelu", X, alpha=1)), "has an attribute 'alpha' of another type"),
    (chain(H, op("Softmax", X, axis=2)), r"names axis 2 of shape \(1, 3\)"),
    (chain(H, op("Dropout", X, None, np.array(True))), "is in training mode; export"),
    (chain(H, op("Dropout", X), opset=6), "is in training mode; export"),
    (chain(H, op("Cast", X, to=TensorProto.INT32)), "casts to INT32; expected floating point"),
    (chain(H, op("Cast", X, to=TensorProto.FLOAT16)), "rounds to FLOAT16, which has no derivative"),
    (chain(H, op("Cast", X, to=TensorProto.BFLOAT16)), "rounds to BFLOAT16, which has no der"),
    (chain(H, op("Greater", X, b), op("Relu", X)), "takes BOOL; expected floating point"),
    (chain(H, op("Not", X)), "takes DOUBLE; expected truth values"),
    (
        chain(H, op("BatchNormalization", X, *np.ones((4, 3)), training_mode=1)),
        "is in training mode, or not spatial",
    ),
    (chain(H, op("BatchNormalization", X, *np.ones((4, 2)))), r"normalizes shape \(1, 3\) by \(2,"),
    (
        chain(H, op("BatchNormalization", X, *np.ones((3, 3)), np.full(3, -2.0))),
        r"scale\[.*\] is nan",
    ),
    (chain(H, op("LayerNormalization", X, b[:2])), r"normalizes shape \(1, 3\) by \(2,\)"),
    (image(op("GroupNormalization", X, b[:2], b[:2], num_groups=3)), "in 3 groups"),
    # windows and steps in time
    (chain(H, op("MaxPool", X, kernel_shape=[2])), r"takes shape \(1, 3\); expected one image"),
    (image(op("MaxPool", X, kernel_shape=[2])), "has windows of .* on 2 axes"),
    (image(op("MaxPool", X, kernel_shape=[9, 9])), "does not fit into a grid"),
    (image(op("MaxPool", X, kernel_shape=[2, 2], auto_pad="SAME")), "pads by 'SAME', which has no"),
    (image(op("Conv", X, np.ones((3, 3, 1, 1)))), "takes values of shape"),
    (image(op("Conv", X, np.ones((3, 2, 1)))), r"has windows of \(1,\) on 2 axes"),
    (image(op("Conv", X, np.ones((3, 2, 1, 1)), b[:2])), r"b: expected shape \(3,\)"),
    (image(op("ConvTranspose", X, np.ones((3, 3, 1, 1)))), "takes values of shape"),
    (chain(op("RNN", X, *RNN, direction="up"), **SEQUENCE), "runs 'up' with"),
    (chain(op("RNN", X, *RNN, clip=1.0), **SEQUENCE), "an attribute 'clip' that has no"),
    (chain(op("RNN", X, *RNN, activations=["Affine"]), **SEQUENCE), "runs 'forward' with Affine"),
    (chain(op("RNN", X, *RNN, None, integers(2)), **SEQUENCE), "or lengths of sequences"),
    (chain(op("RNN", X, *RNN), shape=("time", 1, 2)), "expected one sequence per point"),
    (chain(op("RNN", X, *RNN), shape=(3, 2, 2)), "expected one sequence per point"),
    # models of ai.onnx.ml
    (
        chain(op("LinearRegressor", X, domain="ai.onnx.ml", coefficients=[1.0] * 3), element=FLOAT),
        "has 3 coefficients for 1 times 4",
    ),
    (
        chain(op("Scaler", X, domain="ai.onnx.ml", scale=[1.0] * 3), element=FLOAT),
        "has 3 numbers as scale for 4",
    ),
    (
        chain(op("Normalizer", X, domain="ai.onnx.ml", norm="L3"), element=FLOAT),
        "divides by the norm 'L3', which has no rule",
    ),
    (
        chain(op("Imputer", X, domain="ai.onnx.ml", replaced_value_float=0.0), element=FLOAT),
        "replaces 0, which a point may hold",
    ),
    (
        chain(op("TreeEnsembleRegressor", X, domain="ai.onnx.ml"), element=FLOAT),
        r"\(TreeEnsembleRegressor\): this operator of ai.onnx.ml has no rule here",
    ),
    # constants
    (chain(op("Constant", value_string="a"), op("MatMul", "x", X)), "holds a value_string"),
    (chain(op("Constant"), op("MatMul", "x", X)), "must have exactly one value"),
    (chain(op("Tanh", W), op("MatMul", "x", X)), "computes on constants alone; simplify"),
    (chain(op("Cast", W, to=8), op("MatMul", "x", X)), "casts to element type 8"),
    (chain(op("Cast", W, to=10), op("MatMul", "x", X)), "rounds constants to FLOAT16"),
    (
        chain(op("Range", np.zeros(()), np.ones(()), np.zeros(())), op("Add", "x", X)),
        "three numbers",
    ),
    (
        chain(op("Expand", np.ones(()), integers(2**40)), op("Exp", X), op("Add", "x", X)),
        "for anoth",
    ),
    (holding(INT16), "tensor 'w' holds element type 5; expected one of FLOAT, UINT8"),
    (holding(tensor(99, raw=b"123456")), "tensor 'w' holds element type 99; expected one of"),
    (
        holding(tensor(TensorProto.STRING, string_data=[b"a"] * 6)),
        "tensor 'w' holds element type 8",
    ),
    (holding(tensor(FLOAT, raw=b"1234")), r"claims shape \(2, 3\) of FLOAT, but holds 4 bytes"),
    (holding(tensor(FLOAT, raw=bytes(56))), r"claims shape \(2, 3\) of FLOAT, but holds 56 b"),
    (holding(tensor(FLOAT, raw=b"")), r"claims shape \(2, 3\) of FLOAT, but holds 0 bytes"),
    (holding(tensor(FLOAT, dims=[2, 2**40])), "claims shape|asks for another .* of memory"),
    (holding(tensor(FLOAT, dims=[2, -3], raw=b"")), r"claims shape \(2, -3\)|which has no entries"),
    (holding(tensor(FLOAT, dims=[2**62] * 99)), r"claims shape|do not fit|stack"),
    (holding(tensor(FLOAT, float_data=[1.0] * 5)), "claims shape .* but holds 20 bytes"),
    (holding(tensor(FLOAT, float_data=[1.0] * 6, raw=bytes(24))), "holds its values twice"),
    (holding(tensor(FLOAT, int32_data=[1] * 6)), "holds numbers of another kind"),
    (holding(tensor(TensorProto.FLOAT16, int32_data=[70000] * 6)), "outside the range of its kind"),
    (holding(tensor(TensorProto.FLOAT16, raw=b"\0\x7c" * 6)), "holds NaN or infinity, first as"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=count())
def test_what_cannot_be_read_is_refused_by_name_and_place(model, message):
    if message is None:  # one of a kind that is not refused
        assert isinstance(from_onnx(model), jb.Network)
        return
    with pytest.raises(jb.ModelFormatError, match=message) as caught:
        from_onnx(model)
    assert str(caught.value).startswith("from_onnx: ")


def test_the_file_is_named(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(second("TopK").SerializeToString())
    with pytest.raises(jb.ModelFormatError, match=r"^net.onnx: node 2 'step1' \(TopK\)"):
        from_onnx(path)
    for content in (b"", b"no model at all", chain(H, END).SerializeToString()[:-40]):
        path.write_bytes(content)
        with pytest.raises(jb.ModelFormatError, match=r"^net.onnx: "):
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "absent.onnx")
    with pytest.raises(TypeError, match=r"expected a path or an onnx.ModelProto, but got 5"):
        from_onnx(5)


# --- any bytes at all -----------------------------------------------------------------------------

SMALL = [
    chain(
        op("Sub", X, b[:1]),
        op("Flatten", X),
        op("Gemm", X, W, b),
        op("Sigmoid", X),
        shape=(1, 2, 2),
    ),
    chain(H, op("Sigmoid", X), op("Mul", "v0", X), op("Concat", X, "v0", axis=1), op("Shape", X)),
    chain(
        op("Reshape", X, integers(-1, 1, 2, 2)),
        op("MaxPool", X, kernel_shape=[2, 1]),
        op("Conv", X, b.reshape(3, 1, 1, 1)),
    ),
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
        start = damage.draw(st.integers(0, len(data) - 1))
        kind = damage.draw(st.sampled_from(["change", "insert", "cut"]))
        if kind == "change":
            data[start] = damage.draw(st.integers(0, 255))
        elif kind == "insert":
            data[start:start] = damage.draw(st.binary(max_size=4))
        else:
            del data[start : start + damage.draw(st.integers(1, 40))]
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


# --- what a refusal costs -------------------------------------------------------------------------


def field(number, content):
    """Write a field of bytes as a file holds it."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def with_many(number, *, inside_node=False):
    """Return a good model and a million empty fields of some number."""
    model = chain(op("Relu", X), shape=(1, 4))
    node = model.graph.node[0].SerializeToString()
    del model.graph.node[:]
    empty = bytes([number << 3 | 2, 0]) * 1_000_000
    node = field(1, node + empty if inside_node else node)
    graph = model.graph.SerializeToString() + node + (b"" if inside_node else empty)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


@pytest.mark.parametrize(
    ("number", "inside_node"),
    [(5, True), (1, True), (1, False), (5, False), (11, False), (13, False)],
)
def test_empty_fields_without_end_are_refused_for_little_memory(number, inside_node, tmp_path):
    """Attributes, names, nodes, initializers, inputs, shapes: 64 MiB and three times the file."""
    data = with_many(number, inside_node=inside_node)
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(jb.ModelFormatError, match=r"more pieces|same name|already|more attrib"):
            jb.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26 + 3 * len(data)
    finally:
        tracemalloc.stop()


def test_a_node_of_many_inputs_is_read_in_a_moment():
    """Twelve operands once were permuted before anybody counted them: 12! ways."""
    model = chain(H, op("Sigmoid", X), op("Mul", *[X] * 12))
    with pytest.raises(jb.ModelFormatError, match=r"\(Mul\) has 12 inputs"):
        from_onnx(model)


def calls_per_node(steps, ends):
    """Count the calls in the library's own code that reading a model takes, by node."""
    model, count = chain(*steps, *ends, shape=(1, 3)), 0
    package = jb.__file__.removesuffix("__init__.py")

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call") and frame.f_code.co_filename.startswith(package)

    sys.setprofile(counted)
    try:
        from_onnx(model)
    finally:
        sys.setprofile(None)
    return count / len(steps)


MANY = {
    "identity": [op("Identity", X)],
    "activations": [op("Relu", X), op("Tanh", X), op("Sigmoid", X)],
    "constants": [op("Add", X, b), op("Mul", X, np.array(-1.0)), op("Neg", X)],
    "layers": [op("Gemm", X, np.eye(3), b), op("Relu", X)],
    "branches": [op("Tanh", X), op("Add", X, "x")],
    "fan-out": [op("Tanh", "x")],
}


@pytest.mark.parametrize("name", MANY)
def test_reading_takes_as_many_calls_for_every_node_however_many_there_are(name):
    """30,000 nodes fit into a megabyte, so a node may take few of them: 100 to 400 are taken."""
    calls = []
    for size in (300, 600):
        steps = (MANY[name] * size)[:size]
        join = [op("Concat", *(f"v{k}" for k in range(size)), axis=1)] * (name == "fan-out")
        calls.append(calls_per_node(steps, join))
    few, many = calls
    assert many < min(1.1 * few, 450)


def test_half_precision_that_is_refused_late_costs_three_times_the_file(tmp_path):
    W = np.zeros((512, 512), np.float16)
    steps = [op("MatMul", X, W) for _ in range(16)]
    model = chain(*steps, op("TopK", X), shape=(1, 512), element=TensorProto.FLOAT16)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(jb.ModelFormatError, match="TopK"):
            jb.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_a_file_of_matrices_is_read_in_twice_its_size(tmp_path):
    """The bytes of the file, and what the network keeps, which is not in the bytes of the file."""
    W = np.eye(512, dtype=np.float32)
    path = tmp_path / "net.onnx"
    steps = [op("MatMul", X, W + k) for k in range(16)]
    model = chain(*steps, shape=(1, 512), element=TensorProto.FLOAT)
    path.write_bytes(model.SerializeToString())
    tracemalloc.start()
    try:
        net = jb.load(path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(net.layers[-1].W, W.T + 15)
    assert peak < 2.25 * path.stat().st_size
    assert kept < 1.25 * path.stat().st_size
