"""Dask: the record of one machine, whatever the chunks and whoever dies on the way."""

import os
import signal
import sys
import time

import numpy as np
import pytest
from claims import assert_equal, assert_within

import jacobians as jb
from jacobians import distributed

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

NET = jb.Network.random([4, 6, 2], seed=0)
X = np.random.default_rng(0).normal(size=(1003, 4))
X.flags.writeable = False


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def assert_same(one, other):
    """Sums to rounding; sample, groups and ranks equal."""
    assert one.count == other.count
    for name in ("mean", "std", "importance"):
        assert_within(one.statistic(name), other.statistic(name), 1e-13)
        assert_within(one.interval(name), other.interval(name), 1e-12)
    assert_equal(one.minimum, other.minimum)
    assert_equal(one.sample.points, other.sample.points)
    assert_equal(one.rank, other.rank)


@pytest.mark.parametrize("chunks", [(1003, 4), (100, 4), (300, 3), ((1, 2, 1000), (4,))])
def test_the_record_of_chunks_is_that_of_the_whole(chunks):
    assert_same(jb.sensitivity(NET, da.from_array(X, chunks=chunks)), jb.sensitivity(NET, X))


def test_chunks_of_unknown_size_are_counted_first():
    lazy = da.from_array(X, chunks=(200, 4))
    some = lazy[lazy[:, 0] > 0.3]
    assert np.isnan(some.shape[0])
    assert_same(jb.sensitivity(NET, some), jb.sensitivity(NET, X[X[:, 0] > 0.3]))


def test_data_frames_in_partitions_some_of_them_empty():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    named = NET.with_names(list("dcba"))
    frame = dd.from_pandas(pandas.DataFrame(X, columns=list("abcd")), npartitions=7)
    assert_same(jb.sensitivity(named, frame), jb.sensitivity(named, X[:, ::-1]))
    some = frame[frame.a > 1.9]
    assert_same(jb.sensitivity(named, some), jb.sensitivity(named, X[X[:, 0] > 1.9][:, ::-1]))


def test_jacobians_of_chunks_are_those_of_the_whole():
    """Lazy, chunk by chunk, with selections; a dask array as NumPy would have it."""
    lazy = jb.jacobian(NET, da.from_array(X, chunks=(100, 3)))
    assert (lazy.shape, lazy.dtype, lazy.chunks[0][:2]) == ((1003, 2, 4), X.dtype, (100, 100))
    assert_within(lazy.compute(), jb.jacobian(NET, X), 1e-14)
    some = jb.jacobian(NET, da.from_array(X, chunks=(500, 4)), of=1, columns=[2, 0])
    assert_within(some.compute(), jb.jacobian(NET, X, of=1, columns=[2, 0]), 1e-14)
    single = jb.jacobian(NET.astype(np.float32), da.from_array(X, chunks=(500, 4)))
    assert single.dtype == single.compute().dtype == np.float32
    assert_within(lazy.mean(axis=0).compute(), jb.jacobian(NET, X).mean(axis=0), 1e-14)
    with pytest.raises(TypeError, match="out and plan belong to arrays"):
        jb.jacobian(NET, da.from_array(X), plan=jb.plan(NET, 3))


def test_options_reach_the_chunks():
    one = jb.sensitivity(NET, da.from_array(X, chunks=(100, 4)), inputs=[2], singular_values=True)
    other = jb.sensitivity(NET, X, inputs=[2], singular_values=True)
    assert_same(one, other)
    assert_within(one.norm_quantile(1), other.norm_quantile(1), 1e-14)


def test_bad_collections_are_refused():
    lazy, holes = da.from_array(X, chunks=(100, 4)), X.copy()
    holes[500, 1] = np.nan
    for bad, message in (
        (lazy[:, :3], r"shape \(4,\) or a batch of shape \(B, 4\)"),
        (lazy[:0], "B > 0, but got none"),
        (lazy[0], r"expected a dask array of points \(B, n\)"),
        (da.from_array(holes, chunks=(100, 4)), "Every entry must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            jb.sensitivity(NET, bad)
    with pytest.raises(ValueError, match="ids: not with batches"):
        jb.sensitivity(NET, lazy, ids=np.arange(1003))


def test_without_dask_the_extra_is_named(monkeypatch):
    lazy = da.from_array(X, chunks=(100, 4))
    monkeypatch.setitem(sys.modules, "dask.delayed", None)
    with pytest.raises(ImportError, match=r'pip install "jacobians\[dask\]"'):
        jb.sensitivity(NET, lazy)


def test_an_array_is_no_collection():
    assert not distributed.is_collection(X)
    assert distributed.is_collection(da.from_array(X))


@pytest.mark.parametrize(
    "lengths", [(3,), (1, 2), (2, 0, 1), (1,) * 5, (0, 4, 0, 0, 1, 2), (1,) * 9]
)
def test_distributed_results_are_reduced_as_a_tree_of_neighbours(lengths):
    """Every chunk that has rows once, with the number of its first one; as flat as can be."""

    def merge(left, right):
        assert left[1] == right[0]
        return left[0], right[1], 1 + max(left[2], right[2])

    points = da.from_array(X[: sum(lengths)], chunks=(lengths, (3, 1)))
    first, last, depth = distributed.reduce(
        lambda chunk, start: (start, start + len(chunk), 0 * chunk.sum()), merge, points
    )
    filled = np.count_nonzero(lengths)
    assert (first, last, depth) == (0, sum(lengths), np.ceil(np.log2(filled)))


def test_distributed_chunks_of_partly_unknown_size_are_counted_too():
    known, unknown = da.from_array(X[:5], chunks=(2, 4)), da.from_array(X, chunks=(500, 4))
    mixed = da.concatenate([known, unknown[unknown[:, 0] > 2]])
    rows, chosen = [], np.concatenate([X[:5], X[X[:, 0] > 2]])
    distributed.reduce(lambda chunk, start: rows.append((start, chunk)), lambda *_: None, mixed)
    for start, chunk in rows:
        assert_equal(chunk, chosen[start : start + len(chunk)])
    assert sum(len(chunk) for _, chunk in rows) == len(chosen)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
def test_distributed_maps_of_chunks_have_their_shape_before_they_are_computed(shape):
    """The function is asked of chunks of whole points, once they are wanted, and of no other."""
    asked = []

    def function(chunk):
        asked.append(chunk.shape)
        return np.full((len(chunk), *shape), chunk[0, 0], np.float32)

    points = da.from_array(X[:5], chunks=((2, 3), (3, 1)))
    lazy = distributed.map_chunks(function, points, shape, np.dtype(np.float32))
    assert (lazy.shape, lazy.dtype) == ((5, *shape), np.float32)
    assert lazy.chunks == ((2, 3), *((size,) for size in shape))
    assert not asked
    computed = lazy.compute()
    assert sorted(asked) == [(2, 4), (3, 4)]
    assert (computed.shape, computed.dtype) == ((5, *shape), np.float32)
    assert_equal(computed[2:], np.full((3, *shape), np.float32(X[2, 0])))


def test_distributed_collections_of_other_kinds_are_refused():
    """More axes or fewer, and what has two but no chunks of columns to join."""

    class Frame:
        ndim = 2

    lazy = da.from_array(X, chunks=(500, 4))
    way_out = r"Of a data frame, take to_dask_array\(lengths=True\)\."
    for other in (lazy[None], lazy[0], Frame(), object()):
        for use in (
            lambda other: distributed.map_chunks(len, other, (), X.dtype),
            lambda other: distributed.reduce(len, max, other),
        ):
            with pytest.raises(jb.ShapeError, match=rf"expected a dask array of .*{way_out}"):
                use(other)


def _die_once(block, flag):
    """Kill the worker that computes the block, the first time."""
    if not os.path.exists(flag):
        with open(flag, "w") as file:
            file.write("done")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return block


@pytest.mark.skipif(sys.platform == "win32", reason="workers are killed by a signal")
def test_a_killed_worker_costs_a_retry_and_no_point(tmp_path):
    """Of two processes one is killed in the middle of a chunk: the record is the same."""
    cluster = pytest.importorskip("dask.distributed")
    flag = str(tmp_path / "killed")
    lazy = da.from_array(X, chunks=(100, 4)).map_blocks(_die_once, flag, dtype=float, meta=X[:0])
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
    }
    with (
        dask.config.set({"scheduler": None, "distributed.worker.daemon": True}),
        cluster.LocalCluster(**options) as local,
        cluster.Client(local),
    ):
        record = jb.sensitivity(NET, lazy)
    assert os.path.exists(flag)
    assert_same(record, jb.sensitivity(NET, X))
