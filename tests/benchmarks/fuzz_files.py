"""Make up files until one breaks a promise: ``python tests/benchmarks/fuzz_files.py KIND``.

KIND is npz, onnx, safetensors, or members: npz with the right checksums, so that the damage reaches
the readers inside.  Damage repeats fields, empties tensors and plays with names.  Every file must
give a network or a ModelFormatError, within a second and
within 64 MiB plus three times its size.  Where atheris is installed (``pip install atheris``)
coverage guides the search; elsewhere good files are damaged at random.  A file that breaks a
promise is kept as ``broken.KIND`` in the current folder, and the exit status is not 0.
"""

import argparse
import importlib.util
import io
import os
import random
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from hostile_loading import BASE, FACTOR, SECONDS, load

SEPARATOR = b"\0MEMBER\0"
TOKENS = [
    b"*\0",
    b"\n\0",
    b"\x12\0",
    b'"weight":',
    b".",
    b"(",
    b")",
    b",",
    b"-1",
    b"9" * 20,
    b"<f8",
    b"|O",
    b"'",
    b"{",
    b"[",
    b"null",
    b"1e999",
]


def seeds(kind):
    """Return good files to start from."""
    import numpy as np

    import jacobians as jb

    found = []
    for net in (
        jb.Network.random([2, 3, 1], "tanh", "softmax", seed=0),
        jb.Network([jb.Scale([1.0, 2.0]), jb.Dense(np.ones((1, 2)), [0.5], "leaky_relu")]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.npz")
            jb.save(net, path)
            with zipfile.ZipFile(path) as archive:
                members = SEPARATOR.join(
                    name.encode() + b"\n" + archive.read(name) for name in archive.namelist()
                )
            whole = Path(path).read_bytes()
        found.append(members if kind == "members" else whole)
    if kind == "onnx":
        from onnx import TensorProto, helper, numpy_helper

        float32, relu = TensorProto.FLOAT, helper.make_node("Relu", ["z"], ["y"])
        gemm = helper.make_node("Gemm", ["x", "W", "b"], ["z"], transB=1)
        arrays = {"W": np.ones((3, 2), np.float32), "b": np.ones(3, np.float32)}
        weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        ends = [
            [helper.make_tensor_value_info(name, float32, [1, n])]
            for name, n in (("x", 2), ("y", 3))
        ]
        gate = [
            helper.make_node(kind, inputs, [output])
            for kind, inputs, output in (
                *(("Div", ["z", "r"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "p")),
                *(("Mul", ["z", "p"], "t"), ("Mul", ["t", "h"], "y")),
            )
        ]
        scalars = [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("r", 2**0.5), ("one", 1.0), ("h", 0.5))
        ]
        opset = [helper.make_opsetid("", 17)]
        image = [
            helper.make_node("Reshape", ["x", "shape"], ["i"]),
            helper.make_node("Conv", ["i", "K"], ["c"], pads=[1, 1]),
            helper.make_node("MaxPool", ["c"], ["m"], kernel_shape=[2]),
            helper.make_node("Shape", ["m"], ["s"]),
            helper.make_node("Concat", ["m", "m"], ["k"], axis=2),
            helper.make_node("Slice", ["k", "s", "shape"], ["y"]),
        ]
        kernels = [
            numpy_helper.from_array(np.ones((3, 1, 2), np.float32), "K"),
            numpy_helper.from_array(np.array([-1, 1, 2]), "shape"),
        ]
        found = []
        for nodes, constants in (
            ([gemm, relu], weights),
            ([gemm, *gate], weights + scalars),
            (image, kernels),
        ):
            graph = helper.make_graph(nodes, "net", *ends, constants)
            found.append(helper.make_model(graph, opset_imports=opset).SerializeToString())
    if kind == "safetensors":
        from safetensors.numpy import save

        arrays = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3)}
        halves = {"fc.weight": np.ones((3, 2), np.float16)}
        found = [save(arrays), save(halves, {"fc2.weight": "fc.weight"})]
    return found


def packed(data):
    """Make an archive with the right checksums of what was cut at the separators."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for part in data.split(SEPARATOR):
            name, _, content = part.partition(b"\n")
            info = zipfile.ZipInfo("x")
            info.filename = name.decode("latin-1") or "x"
            archive.writestr(info, content)
    return buffer.getvalue()


class Trial:
    """Loads bytes as a file, and stops at the first one that breaks a promise."""

    def __init__(self, kind):
        self.kind, self.count, self.slowest, self.largest, self.networks = kind, 0, 0.0, 0, 0
        suffix = "npz" if kind == "members" else kind
        self.path = os.path.join(tempfile.mkdtemp(), f"net.{suffix}")
        self.next_report = time.monotonic() + 30

    def __call__(self, data):
        whole = packed(data) if self.kind == "members" else data
        Path(self.path).write_bytes(whole)
        watched = self.count % 20 == 0  # to trace memory makes everything slow
        if watched:
            tracemalloc.start()
        start = time.process_time()
        try:
            verdict = load(self.path)
            seconds = time.process_time() - start
            peak = tracemalloc.get_traced_memory()[1] if watched else 0
            assert verdict.startswith(("refused", "Network")), verdict
            assert seconds < SECONDS, f"{seconds} seconds"
            assert peak <= BASE + FACTOR * len(whole), f"{peak} bytes for a file of {len(whole)}"
        except BaseException:
            Path(f"broken.{self.kind}").write_bytes(whole)
            raise
        finally:
            if watched:
                tracemalloc.stop()
        self.count += 1
        if time.monotonic() > self.next_report:  # atheris ends the process without a word
            self.report()
            self.next_report = time.monotonic() + 30
        self.networks += verdict.startswith("Network")
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, peak)

    def report(self):
        """Print what was tried."""
        print(
            f"{self.kind}: {self.count:,} files, 0 other exceptions; {self.networks:,} networks, "
            f"slowest {self.slowest:.3f} s, largest {self.largest / 2**20:.2f} MiB",
            flush=True,
        )


def damaged(data, dice):
    """Change, cut, repeat or insert somewhere, a few times."""
    data = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        place = dice.randrange(len(data) + 1)
        length = dice.choice((1, 1, 2, 4, 30))
        match dice.randrange(5):
            case 0 if place < len(data):
                data[place] ^= 1 << dice.randrange(8)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = dice.choice(TOKENS)
            case 3:
                data[place:place] = data[place : place + length]
            case _:
                data[place : place + length] = dice.randbytes(length)
    return bytes(data)


def at_random(trial, arguments):
    dice, good = random.Random(arguments.seed), seeds(arguments.kind)
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        trial(damaged(dice.choice(good), dice))
    trial.report()


def by_coverage(trial, arguments):
    import atheris

    with atheris.instrument_imports(include=["jacobians", "zipfile", "json", "numpy.lib"]):
        import jacobians  # noqa: F401
    corpus = Path(tempfile.mkdtemp())
    for k, data in enumerate(seeds(arguments.kind)):
        (corpus / f"seed{k}").write_bytes(data)
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-seed={arguments.seed + 1}",
        "-max_len=4096",
    ]
    words = corpus.parent / f"{corpus.name}.words"
    words.write_text("\n".join('"' + "".join(f"\\x{b:02x}" for b in t) + '"' for t in TOKENS))
    atheris.Setup([sys.argv[0], *options, f"-dict={words}", "-verbosity=0", str(corpus)], trial)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["npz", "members", "onnx", "safetensors"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--random", action="store_true", help="without atheris, even if it is there"
    )
    arguments = parser.parse_args()
    guided = importlib.util.find_spec("atheris") and not arguments.random
    (by_coverage if guided else at_random)(Trial(arguments.kind), arguments)


if __name__ == "__main__":
    main()
