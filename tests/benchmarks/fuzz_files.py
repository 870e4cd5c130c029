"""Make up files until one breaks a promise: ``python tests/benchmarks/fuzz_files.py KIND``.

KIND is npz, onnx, safetensors, nnet, mat, keras, or members: npz with the right checksums, so that
the damage reaches the readers inside.  Every file must give a network or a ModelFormatError, within
a second and within 64 MiB plus three times its size.  Where atheris is installed (``pip install
atheris``) coverage guides the search; elsewhere the bytes of good files are damaged at random, or
their structure is (``twisted_files.py``), in turns.  A file that breaks a
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
from twisted_files import WRITERS, straight, twisted_file

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
    if kind != "members":
        return straight(kind)
    cut = []
    for whole in straight("npz"):
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            members = [name.encode() + b"\n" + archive.read(name) for name in archive.namelist()]
            cut.append(SEPARATOR.join(members))
    return cut


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
        for data in seeds(kind):  # what is imported on the first time takes no part
            Path(self.path).write_bytes(packed(data) if kind == "members" else data)
            load(self.path)

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
        if arguments.kind in WRITERS:
            trial(twisted_file(arguments.kind, dice))
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
    parser.add_argument("kind", choices=[*WRITERS, "members"])
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
