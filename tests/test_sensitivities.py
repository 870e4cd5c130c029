"""The statistics over a data set are those of its Jacobians, and shards merge to the whole."""

import io
import json
import sys
import tracemalloc

import numpy as np
import pytest
from claims import assert_equal, assert_within
from zoo import NETWORKS, points

import jacobians as jb

SOME = ["tanh hidden", "softmax output", "float32", "bottleneck", "one of everything"]


def rounding(net, J):
    """Allow for pieces that meet other matrix kernels: slopes then differ in their last bits."""
    return 200 * np.finfo(net.dtype).eps * np.abs(J).max()


def everything(report):
    """All that a record says, in plain numbers, intervals included."""
    return json.loads(report.to_json(confidence=0.9))


# --- against numpy on the materialised Jacobians --------------------------------------------------


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_statistics_are_those_of_the_stack(name, pieces, monkeypatch):
    net = NETWORKS[name]
    X = points(net, 50)
    size = pieces * net.widths[0] * net.widths[-1]
    monkeypatch.setattr("jacobians.sensitivities.pieces.ENTRIES", size)
    monkeypatch.setattr("jacobians.sensitivities.pieces.POINTS", 1)
    report = jb.sensitivity(net, X)
    J, Y, X = jb.jacobian(net, X).astype(float), net(X).astype(float), X.astype(float)
    allowed = rounding(net, J)
    ratio = X.std(axis=0) / Y.std(axis=0)[:, None]
    assert_within(report.mean, J.mean(axis=0), allowed)
    assert_within(report.mean_absolute, np.abs(J).mean(axis=0), allowed)
    assert_within(report.root_mean_square, np.sqrt((J**2).mean(axis=0)), allowed)
    assert_within(report.std, J.std(axis=0), 10 * allowed)
    assert_within(report.minimum, J.min(axis=0), allowed)
    assert_within(report.maximum, J.max(axis=0), allowed)
    assert_within(report.standardised, J.mean(axis=0) * ratio, 10 * allowed * ratio)
    importance = np.sqrt((J**2).mean(axis=0)) * ratio
    assert_within(report.statistic("importance"), importance, 10 * allowed * ratio)
    elasticities = X[:, None, :] * J / Y[:, :, None]
    bound = 200 * allowed * np.abs(X[:, None, :] / Y[:, :, None]).max(axis=0)
    curvature = 1 + np.abs(J / Y[:, :, None]).max()  # y is rounded as well
    assert_within(report.elasticity, elasticities.mean(axis=0), bound * curvature)
    assert report.count == 50


@pytest.mark.parametrize("name", SOME)
def test_singular_values_and_active_directions_are_those_of_the_stack(name):
    net = NETWORKS[name]
    X = points(net, 40)
    report = jb.sensitivity(net, X)
    J = jb.jacobian(net, X).astype(float)
    values = np.linalg.svd(J, compute_uv=False)
    allowed = rounding(net, J)
    assert_within(report.singular_values["mean"], values.mean(axis=0), allowed)
    assert_within(report.singular_values["minimum"], values.min(axis=0), allowed)
    assert_within(report.singular_values["maximum"], values.max(axis=0), allowed)
    for share in (0, 0.1, 0.5, 0.9, 1):
        assert_within(report.norm_quantile(share), np.quantile(values[:, 0], share), allowed)
    C = (np.swapaxes(J, 1, 2) @ J).mean(axis=0)
    space = report.active_subspace()
    wide = 10 * allowed * np.abs(J).max() * J.shape[1]
    assert_within(space.eigenvalues, np.maximum(np.linalg.eigvalsh(C)[::-1], 0), wide)
    # eigenvectors turn freely where eigenvalues are close, so check C v = lambda v, and vᵀv = 1
    residual = C @ space.directions - space.directions * space.eigenvalues
    assert_within(residual, np.zeros_like(C), 10 * wide)
    eye = np.eye(len(C))
    assert_within(space.directions.T @ space.directions, eye, 100 * np.finfo(float).eps)


# --- closed forms ---------------------------------------------------------------------------------


def test_of_a_linear_network_everything_is_known(rng):
    """J = W everywhere: no spread, elasticity at means W E[x]/E[y], one piece of it per input."""
    W = np.array([[2.0, -1.0, 0.5]])
    net = jb.Network([jb.Dense(W, [20.0])])
    X = rng.integers(1, 9, (64, 3)).astype(float)
    report = jb.sensitivity(net, X)
    assert_equal(report.mean, W)
    assert_equal(report.std, [[0.0, 0.0, 0.0]])
    for name in ("mean", "root_mean_square"):
        low, high = report.interval(name)
        assert_within(low, high, 1e-15)
    y = net(X)
    assert_within(report.elasticity_at_means, W * X.mean(axis=0) / y.mean(), 1e-14)
    assert_within(report.elasticity, (W * X / y).mean(axis=0)[None], 1e-14)
    assert_equal(report.rank, [[1, 2, 3]])
    assert_within(report.singular_values["mean"], [np.linalg.norm(W)], 1e-15)
    space = report.active_subspace()
    assert_within(space.directions[:, 0], W[0] / np.linalg.norm(W), 1e-15)
    assert space.dimension() == 1


def test_points_without_an_elasticity_are_left_out_and_counted():
    net = jb.Network([jb.Dense([[1.0, 2.0]])])
    report = jb.sensitivity(net, [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert_equal(report.without_elasticity, [[1, 1]])
    assert_within(report.elasticity, [[(1 / 3 + 1) / 2, (2 / 3 + 0) / 2]], 1e-15)


def test_of_a_quadratic_network_the_mean_square_is_known():
    """Of y = sum_k (w_k·x)², J = 2 xᵀ WᵀW; on the points ±e_j the mean is 0."""
    W = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    net = jb.Network([jb.Dense(W, activation="square"), jb.Dense([[1.0, 1.0]])])
    X = np.vstack([np.eye(3), -np.eye(3)])
    report = jb.sensitivity(net, X)
    M = 2 * W.T @ W
    assert_equal(report.mean, [[0.0, 0.0, 0.0]])
    assert_within(report.root_mean_square[0] ** 2, (M**2).sum(axis=0) / 3, 1e-14)
    assert_equal(report.std, report.root_mean_square)
    wanted = np.sort(np.linalg.eigvalsh(M @ M / 3))[::-1]
    assert_within(report.active_subspace().eigenvalues, wanted, 1e-13)


def test_a_constant_derivative_has_no_spread_however_large():
    net = jb.Network([jb.Dense([[1e8 + 0.1, 1.0]])])
    report = jb.sensitivity(net, np.random.default_rng(0).normal(size=(1000, 2)))
    assert_equal(report.std, [[0.0, 0.0]])


def test_a_small_spread_about_a_large_mean_is_seen():
    """y = 1e6 x + 1e-3 sin x: sd(dy/dx) = 1e-3 / sqrt(2) on whole periods."""
    net = jb.Network(
        [
            jb.Dense([[1.0], [1.0]]),
            jb.Scale([1e-6, 1]),
            jb.Elementwise("sin"),
            jb.Dense([[1e12, 1e-3]]),
        ]
    )
    X = 2 * np.pi * np.arange(1000)[:, None] / 1000
    report = jb.sensitivity(net, X)
    J = jb.jacobian(net, X)
    assert_within(report.std, J.std(axis=0), 1e-9)
    assert 0 < report.std[0, 0] < 1e-2


def grid(values, n):
    return np.stack(np.meshgrid(*[values] * n, indexing="ij"), axis=-1).reshape(-1, n)


def test_sobol_indices_lie_below_their_bounds():
    """Of y = sin x1 + 7 sin² x2 the indices are 1/2 and 49/8, over their sum.

    x uniform on [-pi, pi]: the bounds are 4 E[(dy/dx)²]/Var = 4 (1/2) / Var and 4 (49/2) / Var.
    Equidistant points integrate trigonometric polynomials exactly.
    """
    net = jb.Network(
        [
            jb.Dense([[1, 0], [0, 2]], [0, np.pi / 2], "sin"),  # sin² x = (1 - sin(2x + pi/2))/2
            jb.Dense([[1, -3.5]], [3.5]),
        ]
    )
    X = grid((np.arange(16) + 0.5) / 8 * np.pi - np.pi, 2)
    report = jb.sensitivity(net, X)
    total = 1 / 2 + 49 / 8
    bound = report.sobol_bound("uniform", low=[-np.pi] * 2, high=[np.pi] * 2)
    assert_within(bound, np.array([[2.0, 98.0]]) / total, 1e-12)
    assert (bound >= np.array([[1 / 2, 49 / 8]]) / total).all()
    # by default the ends are those of the data
    inner = report.sobol_bound() / bound
    assert_within(inner, np.full((1, 2), (15 / 16) ** 2), 1e-12)


def test_for_normal_inputs_of_a_linear_network_the_bound_is_the_index():
    """S_j = w_j² sd_j² / Var(y), on a full factorial, where inputs are uncorrelated."""
    w = np.array([1.0, 2.0, -3.0])
    net = jb.Network([jb.Dense(w[None])])
    report = jb.sensitivity(net, grid(np.array([-1.0, 0.0, 1.0]), 3))
    assert_within(report.sobol_bound("normal"), (w**2 / 14)[None], 1e-15)
    assert_within(report.sobol_bound("normal", std=[1.0, 1, 1]), (w**2 * 1.5 / 14)[None], 1e-14)
    assert_equal(report.statistic("sobol_normal"), report.sobol_bound("normal"))


def test_a_ridge_function_has_one_active_direction(rng):
    """H(x) = f(w·x): E[JᵀJ] is w wᵀ times a number; in standard units w * sd(x)."""
    w = np.array([3.0, -4.0, 12.0]) / 13
    net = jb.Network([jb.Dense([w, w], [0.0, 1.0], "tanh"), jb.Dense([[1.0, 2.0]])])
    X = rng.normal(size=(100, 3)) * [1.0, 10.0, 0.1]
    report = jb.sensitivity(net, X)
    space = report.active_subspace()
    assert_within(space.directions[:, 0], w, 1e-12)
    assert_within(space.eigenvalues[1:], [0.0, 0.0], 1e-15)
    standard = report.active_subspace("standard")
    scaled = w * X.std(axis=0)
    assert_within(standard.directions[:, 0], -scaled / np.linalg.norm(scaled), 1e-12)
    assert_within(space.coordinates(X)[:, 0], X @ w, 1e-12)


def test_kinks_are_counted_by_points():
    """relu(x1 - x2) on a 5x5 grid of whole numbers: 5 points on the diagonal."""
    net = jb.Network(
        [jb.Dense([[1.0, -1.0], [1.0, 1.0]], [0.0, 100.0], "relu"), jb.Dense([[1, 1]])]
    )
    X = grid(np.arange(5.0), 2)
    assert jb.sensitivity(net, X).kinks == {"at": 5, "near": 5, "points": 25}
    assert jb.sensitivity(net, X, near=0.011).kinks == {"at": 5, "near": 13, "points": 25}
    assert (
        jb.sensitivity(NETWORKS["tanh hidden"], points(NETWORKS["tanh hidden"], 9)).kinks["at"] == 0
    )


# --- labels and plain numbers ---------------------------------------------------------------------


def named():
    net = jb.Network([jb.Dense([[1.0, -5.0, 3.0]])], input_names=["a", "b", "c"])
    physical = {"out": "kW", "b": "m/s", "c": "K"}
    return jb.sensitivity(net, np.eye(3) + 1, output_names=["out"], units=physical)


def test_names_ranks_and_plain_numbers():
    report = named()
    scale = report.input_std[0] / report.output_std[0]  # the inputs have one standard deviation
    names, sizes, means = zip(*report.most_influential(0, 2), strict=True)
    assert (names, means) == (("b", "c"), (-5.0, 3.0))
    assert_within(sizes, [5 * scale, 3 * scale], 1e-15)
    derivative = report.to_dict()["out"]["b"]
    assert {k: derivative[k] for k in ("mean", "mean_low", "mean_absolute", "std", "rank")} == {
        "mean": -5.0,
        "mean_low": -5.0,
        "mean_absolute": 5.0,
        "std": 0.0,
        "rank": 1.0,
    }
    assert repr(report) == "Sensitivity of 1 output to 3 inputs over 3 points"


def test_importance_ranks_everywhere_and_raw_derivatives_do_not():
    """Of y = a + 1000 b with sd(b) = 1e-4 sd(a), a matters ten times as much as b."""
    net = jb.Network([jb.Dense([[1.0, 1000.0]])], input_names=["a", "b"])
    X = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 1e-4]
    record = jb.sensitivity(net, X)
    assert_equal(record.rank, [[1, 2]])
    assert_equal(record.order, [[0, 1]])
    assert_equal(record.statistic("rank"), [[1.0, 2.0]])
    assert [name for name, *_ in record.most_influential(0)] == ["a", "b"]
    lines = str(record).splitlines()
    assert [line.split()[0] for line in lines[6:8]] == ["a", "b"]
    assert lines[1] == "Inputs by importance = sqrt(E[(dy/dx)^2]) sd(x)/sd(y)"
    assert record.to_dict()["y1"]["a"]["rank"] == 1
    assert "importance" in record.basis


def test_where_nothing_varies_raw_derivatives_rank_and_it_is_said():
    record = jb.sensitivity(jb.Network([jb.Dense([[1.0, -5.0]])]), [[1.0, 1.0]])
    assert_equal(record.order, [[1, 0]])
    assert np.isnan(record.importance).all()
    assert record.basis == "root mean square of dy/dx, since the data do not vary"
    assert "Inputs by root mean square of dy/dx" in str(record)


def test_what_is_constant_is_said():
    """Of outputs 0 and x1, 0 has no importance; of inputs with sd 1, which rank as raw ones do."""
    X = np.array([[-1.0, 2.0], [1.0, 2.0]])
    dead = jb.sensitivity(jb.Network([jb.Dense([[0.0, 0.0]])]), X)
    assert dead.basis == "root mean square of dy/dx, since the output does not vary"
    assert "nan" not in str(dead)
    assert "Constant over the points, so without importance: output 'y1'" in str(dead)
    both = jb.sensitivity(jb.Network([jb.Dense([[0.0, 0.0], [1.0, 0.0]])]), X)
    assert both.basis.startswith("importance")
    assert "output 'y1'" in str(both)
    held = jb.sensitivity(jb.Network([jb.Dense([[0.0, 3.0], [0.0, 0.0]])]), X)
    assert held.basis.endswith("since the outputs do not vary")


def test_outputs_are_named_by_numbers_or_names():
    net = jb.Network([jb.Dense([[1.0, 3.0]])], output_names=["P(well)"])
    record = jb.sensitivity(net, [[0.0, 1.0], [1.0, 0.5]])
    assert record.most_influential("P(well)", 1) == record.most_influential(0, 1)
    with pytest.raises(ValueError, match="most_influential: output: 'well' is not one of"):
        record.most_influential("well")


def test_directions_are_words():
    """Of y = x1² + x2² - x3², where x1 changes its sign."""
    squares = jb.Dense(np.eye(4), activation="square")
    net = jb.Network([squares, jb.Dense([[1.0, 1.0, -1.0, 0.0]])])
    record = jb.sensitivity(net, [[-1.0, 1, 1, 1], [2.0, 2, 1, 1], [3.0, 3, 4, 5]])
    words = [record.direction(0, j) for j in range(4)]
    assert words == ["mostly rises", "rises", "falls", "no effect"]


def test_correlated_inputs_are_named():
    """x2 is x1 and a tenth of noise, x3 is minus x1 and a little, x4 is its own."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 400, 4))
    X = np.stack([x[:, 0], x[:, 0] + 0.1 * noise[:, 0], -x[:, 0] + 0.5 * noise[:, 1], x[:, 1]], 1)
    net = jb.Network.random([4, 2], seed=0)
    record = jb.sensitivity(net, X + 1e6)
    pairs = record.correlated()
    r = np.corrcoef(X.T)
    assert {pair[:2] for pair in pairs} == {("x1", "x2"), ("x1", "x3"), ("x2", "x3")}
    sizes = [abs(value) for *_, value in pairs]
    assert sizes == sorted(sizes, reverse=True)
    for one, other, value in pairs:
        assert_within(value, r[int(one[1]) - 1, int(other[1]) - 1], 1e-8)
    assert "x1 and x2 (r = +0.99)" in str(record)
    assert "opposite slopes" in str(record)
    merged = jb.sensitivity(net, X[:150] + 1e6).merge(jb.sensitivity(net, X[150:] + 1e6))
    assert_within(
        [p[2] for p in merged.correlated(0.5)], [p[2] for p in record.correlated(0.5)], 1e-8
    )
    constant = jb.sensitivity(net, np.ones((5, 4)))
    assert constant.correlated() == []


def test_a_table_of_one_output_has_units_intervals_and_signs_in_front():
    lines = named().table("out", confidence=0.9).splitlines()
    assert lines[0].split("  ") != []
    assert "90 % interval" in lines[0]
    assert lines[2].split() == [
        *["b", "0.693", "falls", "-5", "-5", "to", "-5", "kW", "/", "(m/s)"]
    ]
    with pytest.raises(ValueError, match="table: output: 'in' is not one of out"):
        named().table("in")


def test_many_outputs_take_a_line_each():
    net = jb.Network([jb.Dense(np.vander([1.0, -2.0, 3.0, -4.0, 5.0], 2))])
    lines = str(jb.sensitivity(net, np.eye(2))).splitlines()
    assert lines[3].split() == ["output", "1st", "2nd"]
    assert lines[6].split() == ["y2", "-x1", "0.67", "+x2", "0.33"]
    assert "x1" in lines[5]
    assert str(jb.sensitivity(net, np.eye(2))).isascii()


def test_units_of_a_derivative_are_a_quotient():
    report = named()
    assert [report.unit(0, j) for j in range(3)] == ["kW", "kW / (m/s)", "kW / K"]


def test_json_is_strict_and_complete():
    """An output that is always 0 has no elasticity: null, since JSON has no NaN."""
    net = jb.Network([jb.Dense([[1.0, 2.0]])])
    report = jb.sensitivity(net, [[0.0, 0.0], [-2.0, 1.0]])
    data = json.loads(report.to_json(), parse_constant=lambda text: pytest.fail(text))
    assert data["derivatives"]["y1"]["x1"]["elasticity"] is None
    assert data["derivatives"]["y1"]["x1"]["without_elasticity"] == 2
    assert data["derivatives"]["y1"]["x2"]["mean"] == 2.0
    assert data["points"] == 2
    assert data["norm_quantiles"]["1.0"] == pytest.approx(np.sqrt(5), rel=1e-15)


def test_data_frame_has_a_row_for_every_pair():
    frame = named().to_dataframe()
    assert frame.shape[0] == 3
    assert list(frame["input"]) == ["a", "b", "c"]
    assert frame.set_index(["output", "input"]).loc[("out", "c"), "mean"] == 3.0


def test_data_frame_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "jacobians\[pandas\]"'):
        named().to_dataframe()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [([2, 0], [1]), (["x3", "x1"], ["y2"]), ("x3", 1), ([2, 0, 3, 1], [2, 1, 0])],
)
def test_a_selection_is_a_part_of_the_whole(inputs, outputs):
    net = jb.Network.random([4, 5, 3], seed=0)
    X = points(net, 20)
    whole = jb.sensitivity(net, X)
    selected = jb.sensitivity(net, X, inputs=inputs, outputs=outputs)
    rows, columns = np.array(selected.outputs), np.array(selected.inputs)
    assert selected.input_names == tuple(f"x{j + 1}" for j in columns)
    # fewer rows and columns meet other matrix kernels
    allowed = rounding(net, whole.maximum - whole.minimum + np.abs(whole.mean))
    assert_within(selected.mean, whole.mean[rows][:, columns], allowed)
    assert_within(selected.sample.J, whole.sample.J[:, rows][:, :, columns], allowed)
    for mine, theirs in zip(selected.interval("std"), whole.interval("std"), strict=True):
        assert_within(mine, theirs[rows][:, columns], 100 * allowed)


# --- one pass -------------------------------------------------------------------------------------


def test_batches_from_an_iterator_are_one_data_set():
    net = jb.Network([jb.Dense([[1.0, 2.0]], activation="square")])
    X = np.arange(40.0).reshape(20, 2)
    assert everything(jb.sensitivity(net, iter([X[:7], X[7:8], X[8:]]))) == everything(
        jb.sensitivity(net, X)
    )


def test_memory_does_not_grow_with_the_points():
    net = jb.Network.random([6, 8, 2], seed=0)

    def peak(batches):
        rng = np.random.default_rng(0)
        tracemalloc.start()
        some = (rng.normal(size=(500, 6)) for _ in range(batches))
        jb.sensitivity(net, some, max_bytes=2**18)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(40) < 1.2 * peak(6)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_demand_and_on_standard_error_alone(monkeypatch, capsys):
    net, X = jb.Network.random([3, 2], seed=0), np.eye(3)
    jb.sensitivity(net, X, progress=True)
    assert capsys.readouterr().err == ""  # a line every few seconds, and nothing took so long
    monkeypatch.setattr("jacobians._progress.LINE_SECONDS", 0.0)
    jb.sensitivity(net, X, progress=True)
    seen = capsys.readouterr()
    assert seen.err == "sensitivity: 3 of 3 points (100%)\n"
    assert seen.out == ""
    jb.sensitivity(net, X)  # not a terminal
    assert capsys.readouterr().err == ""
    monkeypatch.undo()
    monkeypatch.setattr("sys.stderr", Terminal())
    jb.sensitivity(net, X)  # a terminal, but nothing to wait for
    assert sys.stderr.getvalue() == ""
    jb.sensitivity(net, X, progress=True)
    assert "3/3" in sys.stderr.getvalue()


def test_progress_needs_no_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr", Terminal())
    net, X = jb.Network.random([3, 2], seed=0), np.eye(3)
    assert jb.sensitivity(net, X).count == 3
    assert sys.stderr.getvalue() == ""  # a line every few seconds, and nothing took so long
    monkeypatch.setattr("jacobians._progress.LINE_SECONDS", 0.0)
    jb.sensitivity(net, iter([X, X]))
    assert sys.stderr.getvalue() == "sensitivity: 6 points\n"


def test_graphs_with_branches_have_records_too():
    """A residual block, images, a join: the statistics are those of the stack."""
    net = jb.Network(
        [
            jb.Dense(np.eye(3)[:, [1, 2, 0]] / 2, activation="tanh"),
            jb.Residual(
                [jb.Dense([[1.0, 2, 0], [0, 1, -1]], activation="relu"), jb.Dense(np.ones((3, 2)))]
            ),
        ]
    )
    X = np.random.default_rng(0).normal(size=(80, 3))
    record, J = jb.sensitivity(net, X, near=0.1), jb.jacobian(net, X)
    assert_within(record.mean, J.mean(axis=0), 1e-14)
    assert_within(record.std, J.std(axis=0), 1e-14)
    assert_within(record.minimum, J.min(axis=0), 1e-14)
    assert 0 < record.kinks["near"] < record.kinks["points"] == 80


# --- at the entry points --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": np.ones((0, 3))}, jb.ShapeError, r"B > 0, but got \(0, 3\)"),
        ({"X": np.ones(3)}, jb.ShapeError, r"expected points \(B, n\)"),
        ({"X": iter([])}, jb.ShapeError, "B > 0, but got none"),
        (
            {"X": iter([np.ones(3)])},
            jb.ShapeError,
            r"expected points \(B, n\) with B > 0, but got \(3,\)",
        ),
        ({"X": [[1, 2, np.nan]]}, jb.NotFiniteError, r"X\[0, 2\] is nan"),
        ({"input_names": ["a"]}, jb.ShapeError, "input_names: expected 3 names, but got 1"),
        ({"input_names": ["a", "b", "a"]}, ValueError, "'a' stands for two"),
        ({"inputs": ["z"]}, ValueError, "inputs: 'z' is not one of x1, x2, x3"),
        ({"outputs": [2]}, ValueError, "outputs: expected a number below 2, but got 2"),
        ({"outputs": []}, ValueError, "outputs: expected some, each once"),
        ({"inputs": [1, "x2"]}, ValueError, "inputs: expected some, each once"),
        ({"units": {"z": "m"}}, ValueError, "units: no input or output is called 'z'"),
        ({"near": -1}, ValueError, "near: expected a number of at least 0"),
        ({"ids": [1.5, 2.5]}, jb.ShapeError, "ids: expected 2 whole numbers, but got float64"),
        ({"X": iter([np.ones((2, 3))]), "ids": [1, 2]}, ValueError, "not with batches"),
    ],
)
def test_bad_data_sets_are_refused(arguments, error, message):
    arguments = {"X": np.ones((2, 3)), **arguments}
    with pytest.raises(error, match=message):
        jb.sensitivity(jb.Network.random([3, 2], seed=0), **arguments)


def test_squares_out_of_range_are_refused():
    with pytest.raises(jb.NotFiniteError, match="the square of a derivative leaves the range"):
        jb.sensitivity(jb.Network([jb.Dense([[1e200]])]), [[0.0]])


def test_many_inputs_need_no_subspace():
    net = jb.Network.random([12000, 1], seed=0)
    with pytest.raises(jb.TooLargeError, match="Say subspace=False"):
        jb.sensitivity(net, np.zeros((1, 12000)), subspace=True)
    record = jb.sensitivity(net, np.zeros((1, 12000)))
    assert record.mean.shape == (1, 12000)


def test_the_active_subspace_is_that_of_all_points_if_it_was_asked_for(rng):
    """Of 2,000 points; else it is that of the 500 in the sample."""
    net, X = jb.Network.random([3, 4, 2], seed=0), rng.normal(size=(2000, 3))
    whole, sampled = jb.sensitivity(net, X, subspace=True), jb.sensitivity(net, X)
    J = jb.jacobian(net, X)
    assert_within(whole.mean_gram, np.einsum("bij,bik->jk", J, J) / 2000, 1e-13)
    J = sampled.sample.J
    assert_within(sampled.mean_gram, np.einsum("bij,bik->jk", J, J) / 500, 1e-13)


def test_power_means_grow_from_the_mean_to_the_largest(rng):
    """Over the sample; even where powers leave the range of numbers."""
    net, X = jb.Network.random([3, 4, 2], seed=0), rng.normal(size=(100, 3))
    record, J = jb.sensitivity(net, X), np.abs(jb.jacobian(net, X))
    for alpha in (0.5, 1, 3):
        assert_within(record.power_mean(alpha), (J**alpha).mean(axis=0) ** (1 / alpha), 1e-12)
    assert_within(record.power_mean(2), record.root_mean_square, 1e-12)
    assert_within(record.power_mean(np.inf), J.max(axis=0), 1e-14)
    curve = np.array([record.power_mean(alpha) for alpha in (1, 2, 5, 1e4, np.inf)])
    assert (np.diff(curve, axis=0) >= 0).all()
    with pytest.raises(ValueError, match="alpha: expected a number above 0, but got 0"):
        record.power_mean(0)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda r: r.interval("mean", confidence=95), "between 0 and 1"),
        (lambda r: r.statistic("median"), "expected one of mean, .* but got 'median'"),
        (lambda r: r.sobol_bound("cauchy"), "expected 'uniform' or 'normal', not 'cauchy'"),
        (lambda r: r.sobol_bound("normal", std=[1.0]), r"expected shape \(3,\), but got \(1,\)"),
        (lambda r: r.norm_quantile(2), "expected 0 to 1, but got 2"),
    ],
)
def test_questions_that_have_no_answer_are_refused(question, message):
    net = jb.Network.random([3, 2], seed=0)
    report = jb.sensitivity(net, np.eye(3))
    with pytest.raises(ValueError, match=message):
        question(report)


def test_units_of_the_active_subspace_are_checked():
    report = jb.sensitivity(jb.Network.random([3, 2], seed=0), np.eye(3))
    with pytest.raises(ValueError, match="expected 'original' or 'standard', not 'metric'"):
        report.active_subspace("metric")
