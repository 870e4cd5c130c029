"""Records of shards merge to the record of the whole, and batches are one data set."""

import json
import pickle

import numpy as np
import pytest
from claims import assert_equal, assert_within
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import strategies as jst
from jacobians.sensitivities.groups import add_in_numpy, keys_of
from jacobians.sensitivities.measures import STATISTICS

SOME = ["tanh hidden", "softmax output", "float32", "bottleneck", "one of everything"]
AGREEMENT = 1e-13  # of merged and unsplit, relative to the sizes of the terms


def everything(record):
    """All that a record says, in plain numbers, intervals included."""
    return json.loads(record.to_json(confidence=0.9))


def assert_agree(one, other, eps=2.0**-52):
    """Every statistic agrees, relative to its terms; of a spread, the square; one sample."""
    allowed, size = max(AGREEMENT, 500 * eps), np.abs(other.sample.J).max()
    assert one.count == other.count
    for name in ("mean", "mean_absolute", "root_mean_square", "minimum", "maximum"):
        assert_within(getattr(one, name), getattr(other, name), allowed * size)
    assert_within(one.std**2, other.std**2, allowed * size**2)
    assert_within(
        one.statistic("effect"), other.statistic("effect"), allowed * size * one.input_std
    )
    assert_equal(one.sample.keys, other.sample.keys)
    assert_equal(one.sample.points, other.sample.points)


@settings(max_examples=30)
@given(st.data())
def test_shards_of_an_exact_network_merge_to_the_whole(data):
    """Whatever the split, and whichever comes first; the sample too, given ids."""
    net = data.draw(jst.exact_networks(max_depth=2))
    count = data.draw(st.integers(2, 9))
    X = np.stack([data.draw(jst.whole_points(net)) for _ in range(count)])
    ids = data.draw(st.permutations(range(count)))
    cut = data.draw(st.integers(1, count - 1))
    whole = jb.sensitivity(net, X, ids=ids)
    left, right = (
        jb.sensitivity(net, X[points_of], ids=ids[points_of])
        for points_of in (slice(cut), slice(cut, None))
    )
    assert_agree(left.merge(right), whole)
    assert_agree(right.merge(left), whole)


@pytest.mark.parametrize("name", SOME)
def test_many_shards_merge_in_any_tree(name):
    net = NETWORKS[name]
    X, ids = points(net, 60), np.arange(60)
    more = {"singular_values": True, "subspace": True}
    whole = jb.sensitivity(net, X, ids=ids, **more)
    shards = [
        jb.sensitivity(net, X[k : k + 4], ids=ids[k : k + 4], **more) for k in range(0, 60, 4)
    ]
    while len(shards) > 1:
        shards = [a.merge(b) for a, b in zip(shards[::2], shards[1::2], strict=False)] + (
            shards[-1:] if len(shards) % 2 else []
        )
    eps = np.finfo(net.dtype).eps
    assert_agree(shards[0], whole, eps)
    size = np.abs(whole.sample.J).max()
    for mine, theirs in zip(
        (*shards[0].interval("mean"), shards[0].norm_quantile(1)),
        (*whole.interval("mean"), whole.norm_quantile(1)),
        strict=True,
    ):
        assert_within(mine, theirs, 1000 * eps * size)
    C, D = shards[0].mean_gram, whole.mean_gram
    assert_within(C, D, 1000 * eps * np.abs(D).max())


def test_four_hundred_shards_of_one_point_agree_with_the_whole_to_1e_13(rng):
    net = jb.Network.random([2, 4, 1], seed=0)
    X, ids = rng.normal(size=(400, 2)) + 3, np.arange(400)
    merged, *rest = (jb.sensitivity(net, X[k : k + 1], ids=ids[k : k + 1]) for k in range(400))
    for one in rest:
        merged = merged.merge(one)
    assert_agree(merged, jb.sensitivity(net, X, ids=ids))


def test_a_small_spread_survives_a_merge():
    """About a mean of 1e6, the shifts of two records differ, and a spread of 1e-3 is kept."""
    net = jb.Network(
        [
            jb.Dense([[1.0], [1.0]]),
            jb.Scale([1e-6, 1]),
            jb.Elementwise("sin"),
            jb.Dense([[1e12, 1e-3]]),
        ]
    )
    X = 2 * np.pi * np.arange(1000)[:, None] / 1000
    merged = jb.sensitivity(net, X[:300]).merge(jb.sensitivity(net, X[300:]))
    assert_within(merged.std, jb.jacobian(net, X).std(axis=0), 1e-9)


def test_the_sample_is_some_of_the_points_each_at_most_once():
    """The 500 points with the smallest keys, in their order; all of them, if there are fewer."""
    net = NETWORKS["tanh hidden"]
    X = points(net, 1700)
    sample = jb.sensitivity(net, X).sample
    keys = keys_of(np.arange(1700, dtype=np.uint64))
    chosen = np.argsort(keys)[:500]
    assert_equal(sample.keys, keys[chosen])
    assert_equal(sample.points, X[chosen])
    assert_within(sample.y, net(sample.x), 1e-14)
    assert_within(sample.J, jb.jacobian(net, sample.x), 1e-13)
    few = jb.sensitivity(net, X[:60]).sample
    assert_equal(np.sort(few.x, axis=0), np.sort(X[:60], axis=0))


def test_shards_travel_between_processes():
    net = NETWORKS["softmax output"]
    X = points(net, 10)
    a, b = jb.sensitivity(net, X[:4]), jb.sensitivity(net, X[4:])
    there = pickle.loads(pickle.dumps(b))
    assert everything(a.merge(there)) == everything(a.merge(b))
    assert everything(there.merge(a)) == everything(b.merge(a))
    assert len(pickle.dumps(b)) < 60_000  # no room for points that are not there


def test_merging_leaves_both_as_they_were():
    net = NETWORKS["tanh hidden"]
    X = points(net, 20)
    a, b = jb.sensitivity(net, X[:9]), jb.sensitivity(net, X[9:])
    before = everything(a), everything(b)
    a.merge(b)
    assert (everything(a), everything(b)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [0, 1]}, "differ in inputs"),
        ({"outputs": ["y2"]}, "differ in outputs"),
        ({"output_names": ["a", "b"]}, "differ in outputs"),
        ({"near": 0.1}, "differ in near"),
        ({"subspace": True}, "differ in subspace"),
        ({"singular_values": True}, "differ in subspace and singular_values"),
    ],
)
def test_other_questions_do_not_merge(change, message):
    net, X = jb.Network.random([3, 2], seed=0), np.eye(3)
    with pytest.raises(ValueError, match=message):
        jb.sensitivity(net, X).merge(jb.sensitivity(net, X, **change))


def bent(slope):
    return jb.Activation("bent", lambda z: np.where(z > 0, z, slope * z), lambda z: z)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (jb.Gather([0, 1, 1]), jb.Gather([1, 2, 2])),
        (jb.Scale([1.0, 2.0, 3.0]), jb.Scale([1.0, 2.0, 4.0])),
        (jb.LayerNorm(np.ones(3)), jb.LayerNorm(np.ones(3), epsilon=0.1)),
        (jb.Elementwise(bent(0.1)), jb.Elementwise(bent(0.3))),
    ],
)
def test_networks_that_look_alike_do_not_merge(one, other):
    """They show the same and have the same parameters, or none, and other values."""
    a, b = (
        jb.sensitivity(jb.Network([layer], inputs=3), np.eye(3) - 0.5) for layer in (one, other)
    )
    with pytest.raises(ValueError, match="differ in network"):
        a.merge(b)
    again = jb.Network([other], inputs=3)
    assert b.merge(jb.sensitivity(again, np.eye(3))).count == 6


def test_other_networks_do_not_merge():
    one, other = (jb.sensitivity(jb.Network.random([3, 2], seed=s), np.eye(3)) for s in (0, 1))
    with pytest.raises(ValueError, match="differ in network"):
        one.merge(other)
    with pytest.raises(TypeError, match="expected a Sensitivity, but got dict"):
        one.merge({})


# --- batches --------------------------------------------------------------------------------------

NET = jb.Network([jb.Dense([[1.0, 2.0]], activation="square")])
X = np.arange(40.0).reshape(20, 2)


class Loader:
    """An iterable that is no iterator, as a DataLoader is."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize(
    "batches",
    [
        iter([X[:7], X[7:8], X[8:]]),
        Loader([X[:7], X[7:8], X[8:]]),
        [X[:7], X[7:]],
        ((x[None], 5.0) for x in X),
        Loader([(X[:7], np.ones(7)), [X[7:], np.ones(13)]]),
        iter([X[:7], X[:0], X[7:]]),
        [(X[:7], np.ones(7)), (X[7:], np.ones(13))],
    ],
    ids=["iterator", "loader", "list", "pairs", "loader of pairs", "an empty one", "list of pairs"],
)
def test_batches_are_one_data_set(batches):
    """Points are numbered through all batches: groups and intervals are those of the whole."""
    assert everything(jb.sensitivity(NET, batches)) == everything(jb.sensitivity(NET, X))


def test_a_list_of_rows_is_an_array():
    assert everything(jb.sensitivity(NET, X.tolist())) == everything(jb.sensitivity(NET, X))


def test_a_data_loader_is_a_data_set():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.tensor(X), torch.ones(20)), batch_size=6)
    assert everything(jb.sensitivity(NET, loader)) == everything(jb.sensitivity(NET, X))


def test_large_batches_are_cut_and_small_ones_collected(monkeypatch):
    """Whatever the size of a window, the record is the same but for rounding."""
    whole = jb.sensitivity(NET, X)
    for window in (1, 3, 7):
        monkeypatch.setattr("jacobians.sensitivities.pieces.WINDOW", window)
        assert_agree(jb.sensitivity(NET, iter([X[:5], X[5:6], X[6:]])), whole)
        assert_agree(jb.sensitivity(NET, X), whole)


@pytest.mark.parametrize("entries", [1, 7, 40])
@pytest.mark.parametrize("name", ["tanh hidden", "softmax output", "one of everything"])
def test_blocks_are_parts_of_the_whole(name, entries, monkeypatch):
    """Pieces of few points and blocks of few outputs, in NumPy, give every statistic."""
    net = NETWORKS[name]
    Z = points(net, 70)
    whole = jb.sensitivity(net, Z)
    for name, value in (
        ("pieces.ENTRIES", entries),
        ("pieces.POINTS", 1),
        ("groups.BLOCK", entries),
        ("groups.LEAST", 1),
        ("accumulators._add_groups", add_in_numpy),
    ):
        monkeypatch.setattr(f"jacobians.sensitivities.{name}", value)
    blocks = jb.sensitivity(net, Z)
    assert_agree(blocks, whole)
    assert_within(blocks.elasticity, whole.elasticity, 1e-9 * np.abs(whole.elasticity).max())
    monkeypatch.setattr("jacobians.sensitivities.measures.SLAB", entries)
    for statistic in STATISTICS:
        for mine, theirs in zip(blocks.interval(statistic), whole.interval(statistic), strict=True):
            assert_within(mine, theirs, 1e-9 * np.abs(theirs).max())


def test_batches_of_frames_go_by_the_names_of_the_first():
    """Of a network without names; whatever the order of the columns in later batches."""
    pandas = pytest.importorskip("pandas")
    net, X = jb.Network.random([3, 5, 2], seed=0), np.random.default_rng(0).normal(size=(12, 3))
    frame = pandas.DataFrame(X, columns=list("abc"))
    batches = [frame[:5], frame[5:][["c", "a", "b"]]]
    whole = jb.sensitivity(net, frame)
    for asked in (batches, iter(batches), ((batch, np.zeros(len(batch))) for batch in batches)):
        record = jb.sensitivity(net, asked)
        assert record.input_names == ("a", "b", "c")
        assert_agree(record, whole)
    pairs = jb.interactions(net, iter(batches))
    assert pairs.input_names == ("a", "b", "c")
    assert_within(pairs.mean_absolute, jb.interactions(net, frame).mean_absolute, 1e-12)
    with pytest.raises(jb.ShapeError, match="got none"):
        jb.sensitivity(net, iter([]))


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [
        (np.ma.masked_equal([0, 1, 0, 1], 1), TypeError, "by: expected labels, but got a masked"),
        ([0.0, np.nan, 1.0, np.nan], ValueError, "by: 2 of 4 points have no label, None or NaN"),
        (np.array(["a", None, "b", "a"]), ValueError, "by: 1 of 4 points have no label"),
    ],
)
def test_points_without_a_label_are_told(by, error, message):
    net = jb.Network.random([3, 2], seed=0)
    with pytest.raises(error, match=message):
        jb.sensitivity(net, np.eye(4, 3), by=by)
    with pytest.raises(jb.ShapeError, match="ids: expected 4 whole numbers"):
        jb.sensitivity(net, np.eye(4, 3), by=[0, 1, 0, 1], ids=np.arange(3))
