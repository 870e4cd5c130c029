"""Files of every format whose structure is not what it should be: right to the byte, wrong inside.

A good file is a tree of lists, numbers and texts.  A twist repeats, drops, empties, exchanges or
nests some of it, puts one piece where another stood (so that nodes read themselves, functions call
themselves and two things have one name), or writes a number or name of the lists below.  The file
is then written by the rules of its format, with the right checksums and lengths.
"""

import copy
import io
import json
import math
import os
import struct
import tempfile
import warnings
import zipfile
from functools import cache

NUMBERS = [0, 1, -1, 2, 3, 7, 255, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 0.5, 1e999, None, True]
NAMES = ["", ".", ".weight", "weight", ".bias", "0.weight", "x", "y", "W", "W1", "b1", "Theta1"]
NAMES += ["\0", "ä" * 40, "9" * 30, "../../etc/passwd", "/dev/zero", "net.onnx", "<f8", "|O"]
NAMES += ["F16", "I64", "Loop", "If", "Shape", "Concat", "Lambda", "tanh", "softmax", "location"]


class Pairs(list):
    """An object of JSON: a list of names and values, in which a name may stand twice."""


def lists_in(tree):
    """Yield every list of a tree."""
    if isinstance(tree, list):
        yield tree
        for part in tree:
            yield from lists_in(part)


def twisted(tree, dice):
    """Return a tree with a few twists."""
    tree = copy.deepcopy(tree)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        lists = [some for some in lists_in(tree) if some]
        if not lists:
            break
        some, other = dice.choice(lists), dice.choice(lists)
        k, piece = dice.randrange(len(some)), copy.deepcopy(dice.choice(other))
        match dice.randrange(9):
            case 0:
                some[k:k] = [copy.deepcopy(some[k]) for _ in range(dice.choice((1, 1, 2, 300)))]
            case 1:
                del some[k]
            case 2:
                some.clear()
            case 3:
                some[k] = piece
            case 4:
                some.insert(k, piece)
            case 5:
                some[k] = [some[k]]
            case 6:
                dice.shuffle(some)
            case 7:
                some[k] = dice.choice(NUMBERS)
            case _:
                some[k] = dice.choice(NAMES)
    return tree


# --- JSON, archives, safetensors, keras -----------------------------------------------------------


def text(tree):
    """Write JSON; what is no pair in an object is left out."""
    if isinstance(tree, Pairs):
        pairs = [part for part in tree if isinstance(part, list) and len(part) == 2]
        return "{" + ",".join(f"{json.dumps(str(key))}:{text(part)}" for key, part in pairs) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(text, tree)) + "]"
    return json.dumps(tree)


def parsed(given):
    """Read JSON as such a tree."""
    return json.loads(given, object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))


def archive(members):
    """Write an archive of named contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = str(name)[:1000]
            made.writestr(info, content)
    return buffer.getvalue()


def count(tree, most=4096):
    """Return a number of bytes to write."""
    return min(max(int(tree), 0), most) if isinstance(tree, int) else 0


def write_safetensors(tree):
    header, size = (*tree, 0, 0)[:2]
    header = text(header).encode(errors="replace")
    return len(header).to_bytes(8, "little") + header + bytes(count(size))


def npy(described, size):
    """Write an array that is described by pairs."""
    pairs = [part for part in described if isinstance(part, list) and len(part) == 2]
    said = {key: tuple(part) if isinstance(part, list) else part for key, part in pairs if str(key)}
    head = (repr(said)[:60_000] + "\n").encode(errors="replace")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(count(size))


def write_npz(tree):
    header, *arrays = tree
    header = text(header).encode(errors="replace")
    shape = Pairs([["descr", "|u1"], ["fortran_order", False], ["shape", [len(header)]]])
    arrays = [part for part in arrays if len(part) == 3 and isinstance(part[1], list)]
    return archive(
        [
            ("header.npy", npy(shape, 0) + header),
            *((f"{name}.npy", npy(described, size)) for name, described, size in arrays),
        ]
    )


def write_keras(tree):
    return archive([("config.json", text(tree)), ("model.weights.h5", keras_model()[1])])


# --- messages of protocol buffers -----------------------------------------------------------------


def varint(number):
    number, written = number & 2**64 - 1, b""
    while number > 127:
        written, number = written + bytes([number & 127 | 128]), number >> 7
    return written + bytes([number])


def write_onnx(tree):
    """Write a message: pairs of a field's number and its value, which may be a message."""
    written = b""
    for part in tree:
        if not isinstance(part, list) or len(part) != 2 or not isinstance(part[0], int):
            continue
        number, value = part[0] & 0xFFFF, part[1]
        if isinstance(value, int):
            written += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            written += varint(number << 3 | 5) + struct.pack("<f", value)
        elif value is not None:
            inner = write_onnx(value) if isinstance(value, list) else value
            inner = inner.encode() if isinstance(inner, str) else inner
            written += varint(number << 3 | 2) + varint(len(inner)) + inner
    return written


def node(op, inputs, output, *attributes):
    return [1, [*([1, name] for name in inputs), [2, output], [4, op], *attributes]]


def integer(name, value):
    return [5, [[1, name], [3, value], [20, 2]]]


def integers(name, *values):
    return [5, [[1, name], *([8, value] for value in values), [20, 7]]]


def tensor(name, dims, number=5):
    """Return a tensor of ones."""
    content = b"\0\0\x80\x3f" * math.prod(dims)
    return [number, [*([1, n] for n in dims), [2, 1], [8, name], [9, content]]]


def port(number, name, *dims):
    shape = [[1, [[1, n]]] for n in dims]
    return [number, [[1, name], [2, [[1, [[1, 1], [2, shape]]]]]]]


def model(*pieces, x=(1, 4), y=(1, 3)):
    graph = [*pieces, port(11, "x", *x), port(12, "y", *y)]
    own = [[1, "Own"], [10, "mine"], [4, "a"], [5, "b"], [7, node("Own", ["a"], "b")[1]]]
    return [[1, 8], [8, [[1, ""], [2, 17]]], [7, graph], [25, own]]


BESIDE = {"location": "net.onnx", "offset": "0", "length": "12"}  # in the file of the model itself
ELSEWHERE = [
    5,
    [[1, 3], [2, 1], [8, "b"], [14, 1], *([13, [[1, k], [2, v]]] for k, v in BESIDE.items())],
]
SHAPE = [5, [[1, 3], [2, 7], [8, "shape"], *([7, n] for n in (-1, 1, 4))]]
ONNX = [
    model(
        node("Gemm", ["x", "W", "b"], "z", integer("transB", 1)),
        node("Sigmoid", ["z"], "s"),
        node("Mul", ["z", "s"], "y"),
        *(tensor("W", [3, 4]), tensor("b", [3])),
    ),
    model(node("Gemm", ["x", "W", "b"], "y", integer("transB", 1)), tensor("W", [3, 4]), ELSEWHERE),
    model(
        node("Reshape", ["x", "shape"], "i"),
        node("Conv", ["i", "K"], "c", integers("pads", 1, 1)),
        node("MaxPool", ["c"], "m", integers("kernel_shape", 2)),
        node("Transpose", ["m"], "t", integers("perm", 0, 2, 1)),
        node("Flatten", ["t"], "y", integer("axis", 1)),
        *(SHAPE, tensor("K", [3, 1, 2])),
        y=(1, 12),
    ),
    model(
        node("Split", ["x"], "a", [2, "y"], integer("axis", 1)),
        node("Constant", [], "c", [5, [[1, "value"], tensor("", [1]), [20, 4]]]),
        node("Add", ["a", "c"], "e"),
        node("Concat", ["e", "e"], "k", integer("axis", 1)),
        node("Own", ["k"], "o", [7, "mine"]),
        y=(1, 2),
    ),
]

# --- .nnet and .mat -------------------------------------------------------------------------------


def write_nnet(tree):
    rows = (row if isinstance(row, list) else [row] for row in tree)
    return "\n".join(",".join(map(str, row)) for row in rows).encode(errors="replace")


NNET = [
    *(["// a comment"], [2, 2, 1, 3], [2, 3, 1], [0], [-1, -1], [1, 1], [0, 0, 0], [1, 1, 1]),
    *([1, 2], [3, 4], [5, 6], [0.5], [0.5], [0.5], [1, -1, 1], [0.25]),
]


def write_mat(tree):
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + elements(tree)


def elements(tree):
    """Write elements of a .mat file: their kind, what they hold and, if it is a lie, its length."""
    written = b""
    for part in tree:
        if not isinstance(part, list) or len(part) < 2 or not isinstance(part[0], int):
            continue
        kind, held = part[0] & 31, part[1]
        lengths = [n for n in part[2:] if isinstance(n, int)]
        if isinstance(held, str):
            content = held.encode()
        elif kind == 14 and isinstance(held, list):
            content = elements(held)
        else:
            numbers = (
                [n or 0 for n in held if isinstance(n, (int, float, type(None)))]
                if (isinstance(held, list))
                else []
            )
            whole = (int(n) & 2**32 - 1 for n in numbers if abs(n) < 1e300)
            content = b"".join(
                [struct.pack("<d", n) for n in numbers]
                if kind == 9
                else [n.to_bytes(4, "little") for n in whole]
            )
        size = (lengths or [len(content)])[0] & 2**32 - 1
        written += struct.pack("<II", kind, size) + content + bytes(-len(content) % 8)
    return written


def matrix(name, rows, columns):
    entries = [float(k) for k in range(rows * columns)]
    return [14, [[6, [6, 0]], [5, [rows, columns]], [1, name], [9, entries]]]


MAT = [matrix("W1", 3, 2), matrix("b1", 3, 1), matrix("W2", 1, 3), matrix("b2", 1, 1)]


# --- by kind --------------------------------------------------------------------------------------


@cache
def keras_model():
    """Return the description of a small model, and its weights as Keras writes them."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh"), keras.layers.ReLU()])
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net.keras")
        with zipfile.ZipFile(f"{folder}/net.keras") as saved:
            return parsed(saved.read("config.json")), saved.read("model.weights.h5")


@cache
def npz_trees():
    """Return what ``save`` writes of two networks, a path and a graph."""
    import numpy as np

    import jacobians as jb

    path = jb.Network.random([2, 3, 1], "tanh", "softmax", seed=0)
    graph = jb.Network([jb.Residual([jb.Dense(np.eye(2))]), jb.Scale([1.0, 2.0])])
    trees = []
    for net in (path, graph):
        with tempfile.TemporaryDirectory() as folder:
            jb.save(net, f"{folder}/net.npz")
            with np.load(f"{folder}/net.npz") as saved:
                arrays = dict(saved)
        described = [
            [name, Pairs([["descr", a.dtype.str], ["fortran_order", False], ["shape", [*a.shape]]])]
            for name, a in arrays.items()
        ]
        header = parsed(arrays["header"].tobytes())
        trees.append([header, *([*d, arrays[d[0]].nbytes] for d in described if d[0] != "header")])
    return trees


def entry(kind, shape, start, stop):
    return Pairs([["dtype", kind], ["shape", shape], ["data_offsets", [start, stop]]])


TENSORS = [
    Pairs(
        [
            ["0.weight", entry("BF16", [3, 2], 0, 12)],
            ["0.bias", entry("F32", [3], 12, 24)],
            ["__metadata__", Pairs([["format", "pt"]])],
        ]
    ),
    24,
]
WRITERS = {
    "npz": (npz_trees, write_npz),
    "safetensors": (lambda: [TENSORS], write_safetensors),
    "onnx": (lambda: ONNX, write_onnx),
    "nnet": (lambda: [NNET], write_nnet),
    "mat": (lambda: [MAT], write_mat),
    "keras": (lambda: [keras_model()[0]], write_keras),
}


def straight(kind):
    """Return the good files that the twisted ones are made of."""
    trees, write = WRITERS[kind]
    return [write(tree) for tree in trees()]


def twisted_file(kind, dice):
    """Return a file of some kind with twists; one whose twists cannot be written is made again."""
    trees, write = WRITERS[kind]
    while True:
        try:
            return write(twisted(dice.choice(trees()), dice))
        except (TypeError, ValueError, OverflowError, AttributeError, struct.error):
            continue
