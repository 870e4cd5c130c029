"""Points from files: read, or refused with line, column and the way out, in little memory."""

import gzip
import io
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians import points as reader
from jacobians._npz import read_npz, write_npz
from jacobians.points import load_points, open_points

X = np.array([[1.0, 2.0], [3.5, -4.0], [5.0, 6.0]])


def test_points_come_from_npy_npz_and_csv(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "one.npy", X[0])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(X))
    np.savez(tmp_path / "b.npz", inputs=X, targets=X[:, 0])
    np.savez(tmp_path / "c.npz", whatever=X.astype(np.float32))
    for name in ("a.npy", "fortran.npy", "b.npz", "c.npz"):
        assert_equal(load_points(tmp_path / name).X, X)
    assert_equal(load_points(tmp_path / "one.npy").X, X[:1])


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3.5,-4\n5,6\n",
        "1;2\n3.5;-4\n5;6",
        "1\t2\r\n3.5\t-4\r\n5\t6\r\n",
        '"1","2"\n"3.5",-4\n5, 6\n',
        "# made by hand, on a Monday, in May\n1,2\n\n3.5,-4 # the second\n#5,5\n5,6\n\n",
        "1e0,2.\n+3.5,-.4e1\n 5 , 6 \n",
    ],
)
def test_a_table_without_names_is_read_by_position(text, tmp_path):
    (tmp_path / "a.csv").write_text(text, newline="")
    loaded = load_points(tmp_path / "a.csv", ["height", "width"])
    assert_equal(loaded.X, X)
    assert loaded.names is None


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("height,width\n1,2\n3.5,-4\n5,6\n", "utf-8-sig"),
        ("width,height\n2,1\n-4,3.5\n6,5\n", "utf-8"),
        ('town;"width";"height"\n"a;b";2;1\n;-4;3.5\n"c";6;5\n', "utf-8"),
        ("# width,height\n2,1\n-4,3.5\n6,5\n", "utf-8"),
        ("town\twidth\theight\na\t2\t1\n#5\tb\t-4\t3.5\nc\t6\t5\n".replace("#5\t", ""), "utf-8"),
    ],
)
def test_columns_are_taken_by_name(text, encoding, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding=encoding)
    loaded = load_points(tmp_path / "a.csv", ["height", "width"], beside=["town"])
    assert_equal(loaded.X, X)
    assert loaded.names == ("height", "width")
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding=encoding) as file:
        file.write(text)
    assert_equal(load_points(tmp_path / "a.csv.gz", ["height", "width"], beside=["town"]).X, X)


def test_numpys_own_header_names_the_columns(tmp_path):
    np.savetxt(tmp_path / "a.csv", X[:, ::-1], delimiter=",", header="width,height")
    assert_equal(load_points(tmp_path / "a.csv", ["height", "width"]).X, X)


def test_points_come_from_standard_input(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("b,a\n2,1\n")
    with open(tmp_path / "a") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert_equal(load_points("-", ["a", "b"]).X, [[1.0, 2.0]])


def test_points_come_from_parquet_where_pandas_is(tmp_path, monkeypatch):
    """Columns by name, nullable and boolean ones too; a column of words is refused by its name."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    frame = pandas.DataFrame({"height": [1, 3], "town": ["a", "b"], "flat": [True, False]})
    frame["height"] = frame["height"].astype("Int64")
    frame.to_parquet(tmp_path / "a.parquet")
    loaded = load_points(tmp_path / "a.parquet", ["flat", "height"], beside=["town"])
    assert_equal(loaded.X, [[1.0, 1.0], [0.0, 3.0]])
    assert load_points(tmp_path / "a.parquet", beside=["town"]).names == ("height", "flat")
    with pytest.raises(jb.ModelFormatError, match=r"a.parquet\['town'\]: expected numbers, but"):
        load_points(tmp_path / "a.parquet")
    with pytest.raises(jb.ModelFormatError, match="not an input: 'town'"):
        load_points(tmp_path / "a.parquet", ["flat", "height"])
    frame[["town"]].to_parquet(tmp_path / "b.parquet")
    with pytest.raises(jb.ModelFormatError, match="expected columns of numbers, but got none"):
        load_points(tmp_path / "b.parquet", beside=["town"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'a.parquet needs pyarrow: pip install "jac'):
        load_points(tmp_path / "a.parquet")


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", b"", jb.ModelFormatError, "line 0: holds no numbers between commas"),
        ("a.csv", b"a,b\n\n# 1,2\n", jb.ModelFormatError, "line 3: holds no numbers after"),
        (
            "a.csv",
            b"1,2\n\n3\n",
            jb.ModelFormatError,
            "line 3: has 1 cells, .* line has 2",
        ),
        ("a.csv", b"a,b\n1,2,3\n", jb.ModelFormatError, "line 2: has 3 cells, .* line names 2"),
        ("a.csv", b'1,2\n"3,4"\n', jb.ModelFormatError, "line 2: has 1 cells"),
        ("a.csv", b"a,b\n1,z\n", jb.ModelFormatError, r"line 2: column 'b': expected .* got 'z'\."),
        ("a.csv", b"1,2\n1_0,2\n", jb.ModelFormatError, "line 2: column 1: .* but got '1_0'"),
        ("a.csv", b"a,b\n1,\n", jb.ModelFormatError, "'', a missing value; fill it in, or drop"),
        ("a.csv", b"a,b\n1,2\n1,NA\n", jb.ModelFormatError, "line 3: column 'b': .* a missing"),
        ("a.csv", b"1;2\n1,5;2\n", jb.ModelFormatError, "'1,5'; write decimals with a point"),
        ("a.csv", b"1 2\n3 4\n", jb.ModelFormatError, "line 2: column '1 2': .* but got '3 4'"),
        ("a.csv", b"a,b\n#\n1,2\n3,nan\n", jb.NotFiniteError, "line 4, column 'b' is nan. .* fill"),
        ("a.csv", b"1,-inf\n", jb.NotFiniteError, "line 1, column 2 is -inf"),
        ("a.csv", b"1,1e999\n", jb.NotFiniteError, "line 1, column 2 is inf"),
        ("a.csv", b"\xff\xfe\x00", jb.ModelFormatError, "not a text in UTF-8"),
        ("a.csv.gz", b"no gzip", OSError, "gzip"),
        (
            "a.csv.gz",
            gzip.compress(b"1,2\n" * 999, mtime=0)[:-9],
            jb.ModelFormatError,
            "not a text",
        ),
        pytest.param("a.csv", b"1" * 200_000, jb.ModelFormatError, "field larger", id="cell"),
        pytest.param("a.csv", b"1," * 2**19, jb.ModelFormatError, "more than 524288 c", id="cells"),
        pytest.param("a.csv", b"1" * 2**23, jb.ModelFormatError, "longer than 8388608", id="line"),
        ("a.parquet", b"nothing", jb.ModelFormatError, "not a readable parquet file"),
        (
            "a.parquet",
            b"PAR1" + b"\xff" * 200 + b"\x20\0\0\0PAR1",
            jb.ModelFormatError,
            "not a readable parquet file",
        ),
        ("a.npy", b"nothing", jb.ModelFormatError, "not a readable npy file"),
        ("a.npy", npy(np.ones((2, 2)))[:-8], jb.ModelFormatError, "not what the file holds"),
        ("a.npy", npy(np.ones((2, 2, 2))), jb.ShapeError, r"got shape \(2, 2, 2\)"),
        (
            "a.npy",
            npy(np.array([{}], object), allow_pickle=True),
            jb.ModelFormatError,
            "dtype object",
        ),
        ("a.txt", b"1", jb.ModelFormatError, r"read from .npy, .npz, .csv and .* save a table"),
    ],
)
def test_bad_point_files_are_refused(tmp_path, name, content, error, message):
    if "parquet" in name:
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        load_points(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,c", r"a.csv: line 1: .* missing 'b'; not an input: 'c'. Rename or add columns"),
        ("a,bb", r"missing 'b' \(is it 'bb'\?\); not an input: 'bb'"),
        ("a,b,c", r"not an input: 'c'. Leave them out: say which, beside="),
        ("a", r"missing 'b'. Rename or add columns"),
        ("a,b,b", r"'b' stands at several columns; keep one of each"),
    ],
)
def test_a_header_that_is_not_that_of_the_inputs_is_refused_by_name(header, message, tmp_path):
    (tmp_path / "a.csv").write_text(f"{header}\n{','.join('1' * (header.count(',') + 1))}\n")
    with pytest.raises(jb.ModelFormatError, match=message):
        load_points(tmp_path / "a.csv", ["a", "b"])


def test_an_archive_of_several_arrays_must_say_which(tmp_path):
    write_npz(str(tmp_path / "a.npz"), {"x": np.ones(2), "y": np.ones(2)})
    with pytest.raises(jb.ModelFormatError, match=r"has no member 'inputs' among \['x', 'y'\]"):
        load_points(tmp_path / "a.npz")
    assert sorted(read_npz(str(tmp_path / "a.npz"))) == ["x", "y"]


@pytest.mark.parametrize(
    "content",
    [
        b"1," * 4_500_000,  # one line of very many cells
        b'"' + b"1," * 4_500_000,
        b"a,b\n" + b"," * 9_000_000,
        b"a,b\n1," + b"\xf0\x9f\x99\x82" * 2_000_000,
        b"\xff" * 9_000_000,
        b"1\n" * 300_000 + b"z",
        b"\n" * 900_000,
        b"a," * 520_000 + b"a\n1\n",
    ],
    ids=["cells", "quote", "commas", "wide", "bytes", "last", "empty", "names"],
)
def test_refusing_a_table_takes_at_most_64_mib(content, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(jb.ModelFormatError):
            load_points(tmp_path / "a.csv")
        assert tracemalloc.get_traced_memory()[1] <= 64 * 2**20
    finally:
        tracemalloc.stop()


cells = st.sampled_from(["1", "-2.5", '"3"', "", "NA", "x", '"', "#", "1e400", "nan", "0x1", "ä;"])


tables = st.lists(st.lists(cells, min_size=1, max_size=3), max_size=4)


@given(tables, st.sampled_from(",;\t"))
def test_any_table_is_read_as_its_cells_say_or_refused(rows, delimiter):
    """Whoever reads it cell by cell, in plain Python, finds the same numbers."""
    lines = [delimiter.join(row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "any.csv")
        Path(path).write_text("\n".join([delimiter.join("ab"), *lines]))
        try:
            loaded = load_points(path, ["b", "a"])
        except (jb.ModelFormatError, jb.NotFiniteError):
            return
    plain = [line.partition("#")[0] for line in lines]
    table = [[float(cell.strip('"')) for cell in line.split(delimiter)] for line in plain if line]
    assert_equal(loaded.X, np.array(table)[:, ::-1])


def test_the_limits_are_above_what_people_have():
    assert reader.CELLS > 50_176 * 3 > 28 * 28  # images, pixel by pixel
    assert reader.LINE > 25 * 224 * 224


# --- more than memory holds -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "npy", "npz", "parquet"])
def test_a_file_in_batches_is_the_file(tmp_path, suffix, size):
    """Concatenated, the batches are what ``load_points`` gives; none is larger than said."""
    X, path = np.arange(14.0).reshape(7, 2) / 3, tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(X, columns=["b", "a"], index=list("stuvwxy")).to_parquet(path)
    elif suffix in ("npy", "npz"):
        np.save(path, X) if suffix == "npy" else np.savez(path, X)
    else:
        np.savetxt(path, X, delimiter=",", header="b,a", comments="", fmt="%.17g")
    names = None if suffix in ("npy", "npz") else ["a", "b"]
    loaded, whole = open_points(path, names, size=size), load_points(path, names)
    batches = list(loaded)
    assert_equal(np.concatenate(batches), whole.X)
    assert loaded.names == whole.names
    assert suffix == "npz" or max(map(len, batches)) <= size


def test_a_fault_in_a_later_batch_has_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n\n3,4\n5,six\n")
    batches = open_points(tmp_path / "a.csv", size=1)
    assert_equal(next(iter(batches)), [[1.0, 2.0]])
    assert_equal(next(iter(batches)), [[3.0, 4.0]])
    with pytest.raises(jb.ModelFormatError, match="line 5: column 'b': expected a number, but got"):
        next(iter(batches))
    (tmp_path / "b.csv").write_text("1,2\n3,4\n5,nan\n")
    batches = open_points(tmp_path / "b.csv", size=2)
    assert_equal(next(iter(batches)), [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(jb.NotFiniteError, match="line 3, column 2 is nan"):
        next(iter(batches))


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    def peak(lines):
        np.savetxt(tmp_path / "a.csv", np.ones((lines, 5)), delimiter=",")
        tracemalloc.start()
        assert sum(len(batch) for batch in open_points(tmp_path / "a.csv", size=500)) == lines
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(20_000) < 1.5 * peak(2000)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"no array"), "not a readable npy file"),
        (lambda path: np.save(path, np.ones(3)), r"expected points \(B, n\)"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not a readable npy file"),
    ],
)
def test_npy_files_that_hold_no_points_are_refused(tmp_path, write, message):
    write(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=message):
        open_points(tmp_path / "a.npy")


def test_a_path_is_a_data_set(tmp_path):
    """Columns by name; names of the columns where the network has none; ends as the array does."""
    X = np.random.default_rng(0).normal(size=(50, 2))
    np.savetxt(tmp_path / "a.csv", X, delimiter=";", header="b;a", comments="", fmt="%.17g")
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation="tanh")])
    named = net.with_names(["a", "b"])
    record = jb.sensitivity(named, tmp_path / "a.csv")
    assert_equal(record.mean, jb.sensitivity(named, X[:, ::-1]).mean)
    assert jb.sensitivity(net, str(tmp_path / "a.csv")).input_names == ("b", "a")
