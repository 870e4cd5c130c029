"""Records side by side: of groups of points, and of networks on the same data."""

import numpy as np
import pytest
from claims import assert_equal, assert_within

import jacobians as jb
from jacobians import plotting

NET = jb.Network([jb.Dense([[1.0, 2.0]], activation="square")], input_names=["a", "b"])
X = np.random.default_rng(0).normal(size=(300, 2))


def frame():
    pandas = pytest.importorskip("pandas")
    kind = np.where(np.arange(300) % 3 == 0, "few", "many")
    return pandas.DataFrame({"kind": kind, "b": X[:, 1], "a": X[:, 0]})


def test_groups_by_a_column_are_records_of_their_own():
    """The column is no input, and the others are matched by name."""
    groups = jb.sensitivity(NET, frame(), by="kind")
    assert list(groups) == ["few", "many"]
    few = np.arange(300) % 3 == 0
    for name, rows in (("few", few), ("many", ~few)):
        assert groups[name].count == rows.sum()
        assert_within(groups[name].mean, jb.jacobian(NET, X[rows]).mean(axis=0), 1e-13)
    assert repr(groups) == "Comparison by kind: few (100), many (200)"


def test_groups_by_labels_keep_the_ids_of_their_points():
    """Groups by labels merge to the record of the whole, intervals included."""
    labels = np.arange(300) % 3
    groups = jb.sensitivity(NET, X, by=labels, input_names=["A", "B"])
    assert groups.input_names == groups["0"].input_names == ("A", "B")
    one, *others = groups.values()
    for other in others:
        one = one.merge(other)
    whole = jb.sensitivity(NET, X)
    assert_within(one.importance, whole.importance, 1e-13)
    for mine, theirs in zip(one.interval("mean"), whole.interval("mean"), strict=True):
        assert_within(mine, theirs, 1e-12)


def test_an_input_may_be_what_tells_groups_apart():
    points = np.stack([np.arange(60) % 2.0, np.arange(60.0)], 1)
    data = pytest.importorskip("pandas").DataFrame(points, columns=["a", "b"])
    groups = jb.sensitivity(NET, data, by="a")
    assert [record.input_mean[0] for record in groups.values()] == [0.0, 1.0]


def test_two_networks_are_compared_input_by_input():
    """Ten times the weight of a: its intervals do not overlap; without data there are none."""
    other = jb.Network([jb.Dense([[40.0, 2.0]], activation="square")], input_names=["a", "b"])
    both = jb.compare(old=jb.sensitivity(NET, X), new=jb.sensitivity(other, X))
    lines = both.table().splitlines()
    assert lines[0].split() == ["input", "old", "new", "dy/dx,", "95", "%"]
    assert lines[2].startswith("a ")
    assert lines[2].endswith("differ")
    assert str(both).isascii()
    assert "sqrt(E[(dy/dx)^2]) sd(x)/sd(y), sd over the points of all records" in str(both)
    same = jb.compare(one=jb.sensitivity(NET, X), two=jb.sensitivity(NET, X))
    assert "differ" not in same.table()
    assert "<caption" in both._repr_html_()
    ax = both.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["old", "new"]


def test_groups_of_the_same_derivatives_do_not_differ():
    """y = 3 a + b, where a varies four times as much in one group; importance is by all points."""
    net = jb.Network([jb.Dense([[3.0, 1.0]])], input_names=["a", "b"])
    labels = np.arange(300) % 2
    points = X * np.where(labels[:, None] == 1, [4.0, 1.0], [1.0, 1.0])
    groups = jb.sensitivity(net, points, by=labels)
    assert "differ" not in groups.table()
    sizes = {name: record.importance[0, 0] for name, record in groups.items()}
    assert sizes["1"] > 1.05 * sizes["0"]  # each by its own sd
    cells = groups.table().splitlines()[2].split("  ")
    assert len({cell.strip().split()[0] for cell in cells if "(" in cell}) == 1
    whole = jb.sensitivity(net, points)
    assert_within(groups._spread("input"), whole.input_std, 1e-14)
    assert_within(groups._spread("output"), whole.output_std, 1e-14)


def test_what_is_constant_within_a_group_is_said():
    points = np.stack([np.arange(60) % 2.0, np.arange(60.0)], 1)
    data = pytest.importorskip("pandas").DataFrame(points, columns=["a", "b"])
    (row,) = (x for x in jb.sensitivity(NET, data, by="a").table().splitlines() if x[:2] == "a ")
    assert row.count("constant here") == 2


def test_groups_of_an_array_go_by_the_name_of_an_input():
    points = np.stack([np.arange(60) % 2.0, np.arange(60.0)], 1)
    named, labelled = (jb.sensitivity(NET, points, by=by) for by in ("a", points[:, 0]))
    assert list(named) == list(labelled) == ["0.0", "1.0"]
    assert all((named[k].mean == labelled[k].mean).all() for k in named)
    with pytest.raises(ValueError, match="X has no column 'z'"):
        jb.sensitivity(NET, points, by="z")


def test_tables_and_pictures_of_several_outputs_name_the_one_they_show():
    net = jb.Network([jb.Dense(np.arange(1.0, 41.0).reshape(2, 20))], output_names=["p", "q"])
    points = np.random.default_rng(0).normal(size=(50, 20))
    groups = jb.sensitivity(net, points, by=np.arange(50) % 2)
    assert groups.plot("q").get_title() == "q: the 12 largest of 20"
    assert groups.plot(count=20).get_title() == "p"
    assert "input, for p" in groups._repr_html_()
    assert ".plot(output) show q" in groups._repr_html_()
    assert jb.interactions(net, points).plot("q").get_title() == "q"
    ax = jb.sensitivity(net, points).plot("bars", "q")
    assert (ax.get_title(), "for q" in ax.get_xlabel()) == ("the 15 largest of 20", True)


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (lambda: jb.compare(), ValueError, "expected records, but got none"),
        (lambda: jb.compare(old=NET), TypeError, r"compare: old: .* jb\.sensitivity\(net, X\)"),
        (
            lambda: jb.compare(
                one=jb.sensitivity(NET, X), two=jb.sensitivity(NET, X, input_names=["a", "c"])
            ),
            ValueError,
            "compare: 'two' and the first record differ in input_names",
        ),
        (lambda: jb.sensitivity(NET, X, by="kind"), ValueError, "by: X has no column 'kind'"),
        (
            lambda: jb.sensitivity(NET, X, by=[1, 2]),
            jb.ShapeError,
            "a label for each of 300 points",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(question, error, message):
    with pytest.raises(error, match=message):
        question()


def test_the_input_that_shows_an_interaction_colours_the_points():
    """Of y = a² b + c, dy/da = 2 a b goes along with b where a > 0, never with c."""
    W = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 1.0]])
    net = jb.Network(
        [jb.Dense(W, activation="square"), jb.Dense([[0.25, -0.25, 0.1]])],
        input_names=["a", "b", "c"],
    )
    record = jb.sensitivity(net, np.random.default_rng(0).normal(size=(200, 3)))
    ax = record.plot("against input", against="a")
    bar = ax.get_figure().axes[1]
    assert bar.get_ylabel() == "b"
    assert_equal(np.sort(ax.collections[0].get_array()), np.sort(record.sample.x[:, 1]))
    bar = record.plot("against input", against="a", color="c").get_figure().axes[1]
    assert bar.get_ylabel() == "c"
    alone = jb.sensitivity(jb.Network([jb.Dense([[1.0]], activation="square")]), X[:, :1])
    assert len(alone.plot("against input").get_figure().axes) == 1


def test_pictures_of_all_inputs_name_the_largest():
    record = jb.sensitivity(NET, X)
    ax = record.plot("mean and spread", scale="standard")
    assert {text.get_text() for text in ax.texts} == {"a", "b"}
    points = ax.lines[-1].get_xydata()
    assert_within(np.sort(points[:, 0]), np.sort(record.standardised[0]), 1e-15)
    assert record.plot("mean and spread").get_xlabel() == ax.get_xlabel()
    flat = jb.sensitivity(jb.Network([jb.Dense([[0.0, 0.0]])]), X).plot("mean and spread")
    assert flat.get_xlabel() == "mean of d y1 / dx"
    ax = record.plot("alpha curves", scale="original")
    assert [text.get_text() for text in ax.texts] == ["b", "a"]
    assert_within(ax.lines[0].get_ydata()[0], record.mean_absolute.max(), 1e-15)
    assert [text.get_text() for text in plotting.curves([1, 2], np.ones((2, 9))).texts] == [
        f"x{k}" for k in range(1, 7)
    ]
    with pytest.raises(jb.ShapeError, match="expected 2 rows"):
        plotting.curves([1, 2], np.ones((3, 9)))
    with pytest.raises(jb.ShapeError, match="as many x as y"):
        plotting.named_points([1, 2], [1.0])


def test_bars_are_what_they_are_ordered_by():
    """Importance, to the side of the mean derivative: the longest on top, whatever the units."""
    net = jb.Network([jb.Dense([[-1.0, 1000.0]])], input_names=["a", "b"])
    record = jb.sensitivity(net, X * [1.0, 1e-4])
    ax = record.plot("bars")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert_within([bar.get_width() for bar in ax.patches], record.importance[0] * [-1, 1], 1e-15)
    dead = jb.sensitivity(jb.Network([jb.Dense([[0.0, 0.0]])]), X)
    assert dead.plot("bars").get_xlabel().startswith("root mean square")


def test_names_of_points_do_not_overlap():
    """Twenty dots in a heap: the farthest have names, and no name covers another or a dot."""
    x, y = np.random.default_rng(0).normal(size=(2, 20)) * 1e-3
    ax = plotting.named_points([*x, 1.0], [*np.abs(y), 0.5], [f"pixel {k}" for k in range(21)])
    ax.get_figure().canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert ax.texts[0].get_text() == "pixel 20"
    assert 2 <= len(boxes) <= 12
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
