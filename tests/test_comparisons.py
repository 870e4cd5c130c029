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
    assert repr(groups) == "Comparison of few (100 points), many (200 points)"


def test_groups_by_labels_keep_the_ids_of_their_points():
    """Groups by labels merge to the record of the whole, intervals included."""
    labels = np.arange(300) % 3
    one, *others = jb.sensitivity(NET, X, by=labels).values()
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
    assert lines[0].split() == ["input", "old", "new", "95", "%", "intervals"]
    assert lines[2].startswith("a ")
    assert lines[2].endswith("differ")
    assert str(both).isascii()
    assert "Importance, sqrt(E[(dy/dx)^2]) sd(x)/sd(y)" in str(both)
    same = jb.compare(one=jb.sensitivity(NET, X), two=jb.sensitivity(NET, X))
    assert "differ" not in same.table()
    assert "<caption" in both._repr_html_()
    ax = both.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["old", "new"]


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (lambda: jb.compare(), ValueError, "expected records, but got none"),
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
    ax = record.plot("alpha curves")
    assert [text.get_text() for text in ax.texts] == ["b", "a"]
    assert_within(ax.lines[0].get_ydata()[0], record.mean_absolute.max(), 1e-15)
    assert [text.get_text() for text in plotting.curves([1, 2], np.ones((2, 9))).texts] == [
        f"x{k}" for k in range(1, 7)
    ]
    with pytest.raises(jb.ShapeError, match="expected 2 rows"):
        plotting.curves([1, 2], np.ones((3, 9)))
    with pytest.raises(jb.ShapeError, match="as many x as y"):
        plotting.named_points([1, 2], [1.0])
