"""ONNX models as exporters write them, in every encoding; whatever cannot be read is refused."""

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
from onnx_models import (
    DOUBLE,
    FLOAT,
    LAST,
    W,
    X,
    assert_same,
    b,
    chain,
    changed,
    integers,
    op,
)

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
