"""Tables: columns are matched by name, and what does not match is refused by name."""

import numpy as np
import pytest
from claims import assert_equal
from hypothesis import given
from hypothesis import strategies as st

import jacobians as jb
from jacobians._tables import as_inputs, column_names

pandas = pytest.importorskip("pandas")

NAMES = ("age", "bmi", "sex", "bp")
X = np.array([[50.0, 21.5, 1.0, 90.0], [33.0, 30.25, 0.0, 80.0], [71.0, 25.0, 1.0, 101.0]])
NET = jb.Network([jb.Dense(np.arange(12.0).reshape(3, 4), activation="tanh")], input_names=NAMES)
UNNAMED = jb.Network(NET.layers)
FRAME = pandas.DataFrame(X, columns=NAMES)


def as_polars(frame):
    return pytest.importorskip("polars").DataFrame({name: frame[name] for name in frame.columns})


def as_arrow(frame):
    return pytest.importorskip("pyarrow").table({name: frame[name] for name in frame.columns})


def as_structured(frame):
    return frame.to_records(index=False)


def as_dask(frame):
    return pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=2)


KINDS = [lambda frame: frame, as_polars, as_arrow, as_structured, as_dask]
every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=["pandas", "polars", "arrow", "numpy", "dask"]
)


@every_kind
@given(order=st.permutations(NAMES))
def test_the_order_of_the_columns_does_not_matter(kind, order):
    table = kind(FRAME[list(order)])
    assert column_names(table) == tuple(order)
    assert_equal(as_inputs(table, NET, "f: X"), X)


@given(row=st.integers(0, 2), order=st.permutations(NAMES))
def test_a_row_of_a_table_is_a_point(row, order):
    assert_equal(as_inputs(FRAME[list(order)].iloc[row], NET, "f: X"), X[row])
    assert_equal(as_inputs(as_structured(FRAME[list(order)])[row], NET, "f: X"), X[row])


@every_kind
def test_missing_and_other_columns_are_refused_by_name(kind):
    for table, message in (
        (
            FRAME.drop(columns="bmi"),
            r"^f: X: the columns .* missing 'bmi'. Rename or add col",
        ),
        (FRAME.assign(target=1.0), r"not an input: 'target'. Leave them out: X\[list\(net.input_n"),
        (FRAME.rename(columns={"bmi": "BMI_"}), r"missing 'bmi'; not an input: 'BMI_'. Rename"),
        (FRAME.rename(columns={"bmi": "bmj"}), r"missing 'bmi' \(is it 'bmj'\?\)"),
    ):
        with pytest.raises(ValueError, match=message):
            as_inputs(kind(table), NET, "f: X")


def test_many_names_are_not_all_listed():
    wide = pandas.DataFrame(np.ones((1, 40)), columns=[f"c{j}" for j in range(40)])
    with pytest.raises(ValueError, match=r"missing 'age', .* 'c5' and 34 more"):
        as_inputs(wide, NET, "f: X")


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="f: X: 'age' stands at several columns; keep one of each"):
        as_inputs(FRAME[["age", "bmi", "sex", "age"]], NET, "f: X")


@every_kind
def test_without_names_in_the_network_columns_are_taken_as_they_stand(kind):
    table = kind(FRAME[["bp", "sex", "bmi", "age"]])
    assert_equal(as_inputs(table, UNNAMED, "f: X"), X[:, ::-1])
    with pytest.raises(jb.ShapeError, match=r"shape \(4,\) or a batch of shape \(B, 4\), but got"):
        as_inputs(kind(FRAME[["bp", "sex"]]), UNNAMED, "f: X")


def test_labels_that_count_columns_are_no_names():
    """``DataFrame(array)`` has none; a selection of its columns has, and they do not match."""
    counted = pandas.DataFrame(X)
    assert column_names(counted) is None
    assert_equal(as_inputs(counted, NET, "f: X"), X)
    assert column_names(counted[[1, 0]]) == ("1", "0")
    with pytest.raises(ValueError, match="not an input: '1', '0'"):
        as_inputs(counted[[1, 0]], NET, "f: X")


@pytest.mark.parametrize(
    "thing",
    [X, X.tolist(), tuple(map(tuple, X)), pandas.Series([1.0, 2.0]), memoryview(X), 5.0, "a"],
)
def test_what_has_no_columns_has_no_names(thing):
    assert column_names(thing) is None


@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "Float64", "int8[pyarrow]", "bool"])
def test_integer_boolean_and_nullable_columns_are_numbers(dtype):
    kept = X.copy()
    kept[:, 2] = X[:, 2] > 0
    frame = FRAME.astype({"sex": dtype, "age": "UInt16"})
    assert_equal(as_inputs(frame, NET, "f: X"), kept)
    assert_equal(as_inputs(frame.astype({"sex": "boolean"}), NET, "f: X"), kept)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (["m", "f", "m"], TypeError, r"f: X\['sex'\]: expected numbers, but got .* dtype"),
        ([1, "f", None], TypeError, r"f: X\['sex'\]: .* dtype object; convert it, as with .astype"),
        (pandas.Categorical(["m", "f", "m"]), TypeError, "or pandas.get_dummies, or leave it out"),
        (pandas.to_datetime(["2020-01-01"] * 3), TypeError, "dtype datetime64"),
        ([1j, 2, 3], TypeError, r"dtype complex128"),
        (pandas.array(["1", "2", "3"], dtype="string"), TypeError, r"f: X\['sex'\]: expected numb"),
        (pandas.array([1, None, 2], dtype="Int64"), jb.NotFiniteError, r"X\['sex'\]\[1\] is nan"),
        (pandas.array([True, False, None], dtype="boolean"), jb.NotFiniteError, r"'\]\[2\] is nan"),
        ([1.0, 2.0, np.inf], jb.NotFiniteError, r"f: X\['sex'\]\[2\] is inf"),
    ],
)
def test_a_column_that_is_no_numbers_is_refused_by_its_name(column, error, message):
    with pytest.raises(error, match=message):
        as_inputs(FRAME.assign(sex=column), NET, "f: X")


def test_a_table_that_cannot_be_read_is_refused():
    class Lazy:
        columns = NAMES

        def __getitem__(self, name):
            raise TypeError("collect it first")

    with pytest.raises(TypeError, match=r"f: X\['age'\]: not readable as an array: collect it"):
        as_inputs(Lazy(), NET, "f: X")


def test_a_number_that_does_not_fit_the_network_is_refused_by_the_name_of_its_column():
    with pytest.raises(jb.NotFiniteError, match=r"X\['bmi'\]\[0\] is 1e\+300, which does"):
        as_inputs(FRAME.assign(bmi=1e300), NET.astype(np.float32), "f: X")
    assert as_inputs(FRAME, NET.astype(np.float32), "f: X").dtype == np.float32


def test_tensors_are_taken_also_with_gradients_and_as_bfloat16():
    torch = pytest.importorskip("torch")
    exact = torch.tensor(X)
    assert_equal(as_inputs(exact.requires_grad_(), NET, "f: X"), X)
    assert_equal(as_inputs(torch.nn.Parameter(exact), NET, "f: X"), X)
    assert_equal(as_inputs(exact.bfloat16(), NET, "f: X"), exact.bfloat16().double().detach())
    for tensor in (torch.zeros(4, device="meta"), torch.zeros(2, 4).to_sparse()):
        with pytest.raises(TypeError, match="f: X: expected a dense tensor, but got tensor"):
            as_inputs(tensor, NET, "f: X")
    with pytest.raises(TypeError, match="f: X: expected numbers, not truth values"):
        as_inputs(exact > 0, NET, "f: X")


CODED = jb.Network([jb.Dense([[1.0, 2.0, 3.0]])], input_names=["area", "town_Oslo", "town_Rome"])
HOUSES = pandas.DataFrame({"area": [50.0, 80.0], "town": ["Rome", "Oslo"]})


def test_a_column_of_words_is_refused_with_what_makes_numbers_of_it():
    """What the message says is taken, also for a table that does not have all categories."""
    with pytest.raises(
        ValueError, match=r"'town': pandas\.get_dummies\(X\)\.reindex\(columns=net\."
    ):
        jb.jacobian(CODED, HOUSES)
    one = pandas.get_dummies(HOUSES[:1])
    with pytest.raises(ValueError, match=r"missing 'town_Oslo'.*not occur here: X\.reindex\("):
        jb.jacobian(CODED, one)
    filled = one.reindex(columns=CODED.input_names, fill_value=0)
    assert_equal(CODED(filled), [[53.0]])
    for frame in (HOUSES.rename(columns={"town": "city"}), HOUSES[["area"]]):
        with pytest.raises(ValueError, match=r"Rename or add columns\.$"):
            jb.jacobian(CODED, frame)


def test_images_are_refused_with_the_reshape_that_fits():
    net = jb.Network([jb.Dense(np.ones((2, 144)))], inputs=(144,))
    with pytest.raises(jb.ShapeError, match=r"X\.reshape\(len\(X\), -1\)"):
        jb.jacobian(net, np.ones((16, 1, 12, 12)))
    with pytest.raises(jb.ShapeError, match=r"got \(16, 1, 12, 13\)\.$"):
        jb.jacobian(net, np.ones((16, 1, 12, 13)))


@pytest.mark.parametrize("kind", [np.array, list, pandas.Series])
def test_words_for_labels_are_refused_with_what_makes_numbers_of_them(kind):
    """What the messages say is taken."""
    words = ["sick", "well", "sick"]
    two = jb.Network(
        [jb.Dense(np.ones((2, 4)), activation="softmax")], output_names=["sick", "well"]
    )
    with pytest.raises(
        TypeError, match=r"\[net\.output_names\.index\(label\) .* are 'sick', 'well'"
    ):
        jb.backprop.gradients(two, X, kind(words), jb.CrossEntropy())
    numbers = [two.output_names.index(label) for label in kind(words)]
    jb.backprop.gradients(two, X, numbers, jb.CrossEntropy())
    sigmoid = jb.Dense(np.ones((1, 4)), activation="sigmoid")
    one = jb.Network([sigmoid], output_names=["P(well)"])
    loss = jb.BinaryCrossEntropy()
    with pytest.raises(TypeError, match=r"\(np\.asarray\(Y\) == 'well'\)\[:, None\]"):
        jb.backprop.gradients(one, X, kind(words), loss)
    numbers = (np.asarray(kind(words)) == "well")[:, None].astype(float)
    jb.backprop.gradients(one, X, numbers, loss)
    with pytest.raises(TypeError, match="from 0 in the order of the outputs"):
        jb.backprop.gradients(jb.Network(two.layers), X, kind(words), jb.CrossEntropy())


def test_one_output_needs_the_loss_of_two_classes_and_one_column():
    one = jb.Network([jb.Dense(np.ones((1, 4)), activation="sigmoid")])
    for y in ([[0.0], [1.0], [1.0]], [0, 0, 0], [1.0, 0.0, 1.0]):
        with pytest.raises(jb.ShapeError, match=r"use jb\.BinaryCrossEntropy\(\)"):
            jb.backprop.gradients(one, X, y, jb.CrossEntropy())
    with pytest.raises(jb.ShapeError, match=r"Pass y\[:, None\]"):
        jb.backprop.gradients(one, X, [0, 1, 0], jb.BinaryCrossEntropy())


def test_every_vector_beside_the_points_goes_by_its_names():
    """Tangents by the inputs, cotangents by the outputs, sizes by the inputs of a record."""
    net = jb.Network.random([3, 4, 2], seed=0).with_names(["a", "b", "c"], ["u", "v"])
    X = np.array([[1.0, 2.0, 3.0]])
    lin, trace = jb.linearize(net, X), jb.trace(net, X)
    by_name = pandas.DataFrame([[5.0, -1.0]], columns=["v", "u"])
    tangent = pandas.DataFrame([[3.0, 1.0, 2.0]], columns=["c", "a", "b"])
    right, forward = np.array([[-1.0, 5.0]]), np.array([[1.0, 2.0, 3.0]])
    assert_equal(lin.vjp(by_name), lin.vjp(right))
    assert_equal(lin.jvp(tangent), lin.jvp(forward))
    assert_equal(lin.hessian(by_name).to_dense(), lin.hessian(right).to_dense())
    assert_equal(
        lin.mixed_hessian(by_name, 1, "W").to_dense(), lin.mixed_hessian(right, 1, "W").to_dense()
    )
    assert_equal(jb.backprop.vjp(trace, by_name), jb.backprop.vjp(trace, right))
    assert_equal(jb.hvp(net, X, tangent, by_name), jb.hvp(net, X, forward, right))
    with pytest.raises(ValueError, match="missing 'u'"):
        lin.vjp(by_name.rename(columns={"u": "w"}))
    record = jb.sensitivity(net, np.random.default_rng(0).normal(size=(9, 3)))
    std = pandas.Series([1.0, 2.0, 3.0], index=["c", "b", "a"])
    assert_equal(record.sobol_bound("normal", std=std), record.sobol_bound("normal", std=[3, 2, 1]))


def test_two_tables_of_an_unnamed_network_go_by_the_names_of_the_points():
    """Columns of other order beside them: their names are matched, not their positions."""
    swapped, tangents = FRAME[list(NAMES[::-1])], pandas.DataFrame(X[::-1], columns=NAMES)
    u, std = np.ones(3), pandas.Series([0.1, 0.2, 0.3, 0.4], index=NAMES)
    covariance = FRAME.cov()
    for given_as in (swapped, swapped.iloc[0]):
        beside = tangents if given_as is swapped else tangents.iloc[0]
        forward = beside[list(NAMES[::-1])]
        hvp = jb.hvp(UNNAMED, given_as, forward.to_numpy(), u)
        assert_equal(jb.hvp(UNNAMED, given_as, beside, u), hvp)
        jvp = jb.jvp(UNNAMED, given_as, forward.to_numpy())
        assert_equal(jb.jvp(UNNAMED, given_as, beside), jvp)
        lin = jb.linearize(UNNAMED, given_as)
        assert_equal(lin.jvp(beside), lin.jvp(forward.to_numpy()))
        bars = jb.error_bars(UNNAMED, given_as, std=std.to_numpy()[::-1].copy())
        assert_equal(jb.error_bars(UNNAMED, given_as, std=std).covariance, bars.covariance)
        bars = jb.error_bars(UNNAMED, given_as, covariance=covariance.to_numpy()[::-1, ::-1].copy())
        assert_equal(
            jb.error_bars(UNNAMED, given_as, covariance=covariance).covariance, bars.covariance
        )
    first = jb.linearize(UNNAMED, jb.trace(UNNAMED, swapped).point(0))
    assert_equal(first.jvp(std), first.jvp(std.to_numpy()[::-1].copy()))
    alone = jb.linearize(UNNAMED, jb.trace(UNNAMED, swapped.iloc[0]).stacked())
    assert_equal(alone.jvp(std.to_frame().T), alone.jvp(std.to_numpy()[None, ::-1].copy()))
    with pytest.raises(ValueError, match="missing 'bp'"):
        first.jvp(std.rename({"bp": "other"}))
    with pytest.raises(ValueError, match="missing 'bp'"):
        jb.error_bars(UNNAMED, FRAME, std=std.rename({"bp": "other"}))
