"""Every picture shows the numbers it was given, on the axes it was given, centred at zero.

How they look was judged by eye; what is drawn, and where, is tested here.
"""

import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from claims import assert_equal, assert_within
from matplotlib.collections import PatchCollection, QuadMesh
from zoo import MAPS, NETWORKS

import jacobians as jb
from jacobians import plotting
from jacobians.data import bundle
from jacobians.maps import Convolution, Windows
from jacobians.sensitivities.pictures import KINDS

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(scope="module")
def records():
    records_of = {}
    for name in ("digits", "diabetes"):
        data = bundle(name)
        records_of[name] = jb.sensitivity(data.network, data.inputs)
    return records_of


def mesh(ax):
    return next(artist for artist in ax.collections if isinstance(artist, QuadMesh))


def texts(labels):
    return [label.get_text() for label in labels]


def draw_everything(ax, kind, records):
    net = jb.Network.random([3, 5, 4, 2], "relu", seed=0)
    return {
        "heat_map": lambda: plotting.heat_map(np.eye(2, 3), ax=ax),
        "chain": lambda: plotting.chain(net, np.ones(3), ax=ax),
        "map_picture": lambda: plotting.map_picture(jb.Diagonal([1.0, 2.0]), ax=ax),
        "token_blocks": lambda: plotting.token_blocks(np.eye(6), 3, ax=ax),
        "saliency": lambda: plotting.saliency(np.ones((3, 8, 8)), ax=ax),
        "waterfall": lambda: plotting.waterfall([1.0, -2.0, 0.5], count=1, start=3.0, ax=ax),
        "bars": lambda: plotting.bars([1.0, -2.0], low=[0, -3], high=[2, -1], ax=ax),
        "violins": lambda: plotting.violins(np.random.default_rng(0).normal(size=(20, 3)), ax=ax),
        "spectrum": lambda: plotting.spectrum([3.0, 1.0, 0.1], ax=ax),
        "against_input": lambda: plotting.against_input([1, 2, 3], [2, 1, 0], ax=ax),
        "summary": lambda: plotting.summary([1, 2, 3], [2, 1, 0], ax=ax),
        "dots": lambda: plotting.dots(np.eye(2, 3), low=np.eye(2, 3), high=np.eye(2, 3), ax=ax),
        "curves": lambda: plotting.curves([1, 2], np.ones((2, 3)), ax=ax),
        "named_points": lambda: plotting.named_points([1.0, -2.0], [0.0, 1.0], ax=ax),
        "kinks_along_line": lambda: plotting.kinks_along_line(net, -np.ones(3), np.ones(3), ax=ax),
    }[kind]()


KINDS_OF_ARRAYS = sorted(set(plotting.__all__) - {"Bends", "bends"})


@pytest.mark.parametrize("kind", KINDS_OF_ARRAYS)
def test_every_picture_draws_on_the_axes_it_is_given(kind, records):
    figure, ax = plt.subplots()
    assert draw_everything(ax, kind, records) is ax
    assert len(plt.get_fignums()) == 1
    figure.canvas.draw()


@pytest.mark.parametrize("kind", KINDS_OF_ARRAYS)
def test_every_picture_makes_axes_of_its_own(kind, records):
    ax = draw_everything(None, kind, records)
    ax.figure.canvas.draw()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ["digits", "diabetes"])
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("units", ["original", "standard"])
def test_every_kind_of_record_is_drawn(kind, name, units, records):
    if (kind, name) == ("saliency", "diabetes"):
        with pytest.raises(jb.ShapeError, match="do not say which pixels"):
            records[name].plot(kind)
    else:
        ax = records[name].plot(kind, records[name].output_names[-1], scale=units)
        ax.figure.canvas.draw()


@pytest.mark.parametrize("name", ["digits", "diabetes"])
@pytest.mark.parametrize("kind", ["bars", "violins", "heat map", "against input", "summary"])
def test_labels_of_ticks_do_not_overlap(kind, name, records):
    ax = records[name].plot(kind)
    ax.figure.canvas.draw()
    for axis, along in ((ax.xaxis, 0), (ax.yaxis, 1)):
        boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
        ends = sorted((box.min[along], box.max[along]) for box in boxes)
        for (_, end), (start, _) in pairwise(ends):
            assert end <= start + 0.5  # half a pixel


def test_a_heat_map_shows_the_matrix_with_white_at_zero(rng):
    J = rng.normal(size=(3, 5)) + 2
    ax = plotting.heat_map(J, list("abcde"), ["u", "v", "w"])
    drawn = mesh(ax)
    assert_equal(np.asarray(drawn.get_array()).reshape(3, 5), J)
    low, high = drawn.get_clim()
    assert -low == high == np.abs(J).max()
    assert texts(ax.get_xticklabels()) == list("abcde")
    assert texts(ax.get_yticklabels()) == ["u", "v", "w"]
    assert ax.get_ylim() == (3, 0), "the first output stands on top"
    written = {t.get_position(): t.get_text() for t in ax.texts}
    assert written[4.5, 0.5] == f"{J[0, 4]:.2g}".replace("-", "−")


def test_every_kind_of_map_is_drawn_with_its_entries():
    """The zeros of a map with a structure are left out: the texture of its kind shows there."""
    for _, A, dense in MAPS:
        if A.batch:
            with pytest.raises(jb.ShapeError, match="expected a single matrix"):
                plotting.map_picture(A)
            continue
        ax = plotting.map_picture(A)
        drawn = np.ma.filled(mesh(ax).get_array(), 0.0).reshape(A.shape)
        assert_equal(drawn, dense)
        assert ax.get_title().startswith(type(A).__name__)
        plt.close("all")


def test_a_large_map_shows_the_largest_entry_of_every_spot():
    A = jb.Diagonal(np.where(np.arange(1000) == 777, -9.0, 1.0))
    drawn = np.ma.filled(mesh(plotting.map_picture(A)).get_array(), 0.0)
    assert drawn.size == 256**2
    assert drawn.min() == -9.0
    assert drawn.max() == 1.0


def test_a_map_that_is_too_large_shows_its_texture_alone():
    kernel = np.ones((64, 64, 3, 3))
    A = Convolution(kernel, Windows((64, 64), 3, padding=1))
    ax = plotting.map_picture(A)
    assert not ax.collections
    assert ax.patches[0].get_hatch() == "////"


def test_the_chain_of_a_graph_has_a_block_between_neighbouring_cuts():
    net = NETWORKS["attention"]
    ax = plotting.chain(net, np.ones(net.widths[0]))
    assert [t for t in texts(ax.texts) if "$" in t] == ["$J$", "$F^{2}$", "$F^{1}$"]


def test_token_blocks_are_norms_of_blocks(rng):
    J = rng.normal(size=(6, 8))
    ax = plotting.token_blocks(J, (3, 2))
    norms = [
        [np.linalg.norm(J[2 * i : 2 * i + 2, 4 * j : 4 * j + 4]) for j in (0, 1)] for i in range(3)
    ]
    # roots of the same eight squares, added in another order
    np.testing.assert_allclose(mesh(ax).get_array().reshape(3, 2), norms, rtol=8 * 2.0**-52)
    with pytest.raises(jb.ShapeError, match="is not made of 4 x 2 blocks"):
        plotting.token_blocks(J, (4, 2))


def test_a_matrix_of_zeros_is_white():
    drawn = mesh(plotting.heat_map(np.zeros((2, 2))))
    assert drawn.get_clim() == (-1, 1)


def test_a_dollar_in_a_name_is_no_formula():
    ax = plotting.heat_map([[1.0, 2.0]], ["$x_1$", "a$"], ["y"])
    ax.figure.canvas.draw()
    assert not any(label.get_parse_math() for label in ax.get_xticklabels())
    assert texts(ax.get_xticklabels()) == ["$x_1$", "a$"]


def test_a_chain_names_every_factor_and_leaves_gaps_for_slopes_of_zero():
    net = jb.Network([jb.Dense(np.eye(3), [1.0, -1, 1], "relu"), jb.Dense(np.ones((1, 3)))])
    ax = plotting.chain(net, np.zeros(3))
    assert [t for t in texts(ax.texts) if "$" in t] == ["$J$", "$W^{2}$", "$D^{1}$", "$W^{1}$"]
    (diagonal,) = (c for c in ax.collections if isinstance(c, PatchCollection))
    assert len(diagonal.get_paths()) == 2, "of three units one is switched off"
    drawn = [np.asarray(c.get_array()) for c in ax.collections if isinstance(c, QuadMesh)]
    assert_equal(drawn[0].reshape(1, 3), [[1.0, 0.0, 1.0]])


def test_images_share_one_scale(rng):
    images = rng.normal(size=(4, 5, 3))
    ax = plotting.saliency(images, columns=2)
    meshes = [c for c in ax.collections if isinstance(c, QuadMesh)]
    limit = np.abs(images).max()
    for drawn, image in zip(meshes, images, strict=True):
        assert_equal(np.asarray(drawn.get_array()).reshape(5, 3), image)
        assert drawn.get_clim() == (-limit, limit)


def test_bars_are_sorted_by_size_and_say_what_is_left_out():
    values = np.array([1.0, -5.0, 3.0, -2.0])
    ax = plotting.bars(values, list("abcd"), low=values - 0.5, high=values + 0.25, count=3)
    assert texts(ax.get_yticklabels()) == ["b", "c", "d"]
    assert [bar.get_width() for bar in ax.patches] == [-5.0, 3.0, -2.0]
    assert ax.get_title() == "the 3 largest of 4"
    segments = ax.collections[0].get_segments()
    assert_equal(segments[0][:, 0], [-5.5, -4.75])
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()


def test_violins_mark_median_and_middle_of_the_spread(rng):
    derivatives = rng.normal(size=(201, 3)) * [1, 5, 0.1]
    ax = plotting.violins(derivatives, ["a", "b", "c"])
    assert texts(ax.get_yticklabels()) == ["b", "a", "c"]
    medians = next(line for line in ax.lines if line.get_marker() == "o")
    assert_within(medians.get_xdata(), np.median(derivatives, axis=0)[[1, 0, 2]], 1e-15)


def test_an_input_without_any_spread_has_a_violin():
    plotting.violins(np.ones((10, 2)) * [1.0, 0.0]).figure.canvas.draw()


def test_a_spectrum_is_logarithmic_and_marks_what_is_zero():
    ax = plotting.spectrum([1.0, 1e-3, 1e-20])
    assert ax.get_yscale() == "log"
    assert_equal(ax.lines[0].get_ydata(), [1.0, 1e-3])
    assert texts(ax.get_legend().get_texts()) == ["0 up to rounding"]


def test_bends_are_where_units_change_sides():
    """relu(x), relu(2x - 1) from -1 to 1: at 0 and 1/2, the places 1/2 and 3/4 of the line."""
    net = jb.Network(
        [
            jb.Dense([[1.0], [2.0]], [0.0, -1.0], "relu"),
            jb.Dense([[1.0, -3.0]], [0.25], "hard_tanh"),
        ]
    )
    drawn = plotting.bends(net, [-1.0], [1.0])
    # then 1/4 + x - 3 (2x - 1) = 13/4 - 5x is 1 at x = 9/20, before, where 1/4 + x is not yet 1;
    # at x = 1/2 it is 3/4, falling to -1 at x = 17/20
    assert_within(drawn.t, [0.5, 0.75, (1 + 0.85) / 2], 1e-15)
    assert_equal(drawn.layers, [1, 1, 2])
    assert_equal(drawn.units, [0, 1, 0])
    ax = plotting.kinks_along_line(net, [-1.0], [1.0])
    assert texts(ax.get_legend().get_texts()) == ["layer 1: 2 kinks", "layer 2: 1 kinks"]
    marks = [line for line in ax.lines if line.get_marker() in "os"]
    assert_within(marks[0].get_ydata(), [0.25, 0.75], 1e-14)


def test_between_bends_a_piecewise_linear_network_is_linear(rng):
    net = jb.Network.random([3, 10, 8, 1], "relu", seed=1)
    start, stop = rng.normal(size=(2, 3)) * 3
    ends = np.concatenate([[0], plotting.bends(net, start, stop).t, [1]])
    assert len(ends) > 5

    def along(t):
        return net(start + np.asarray(t)[:, None] * (stop - start))[:, 0]

    middle = along((ends[1:] + ends[:-1]) / 2)
    assert_within(middle, (along(ends[1:]) + along(ends[:-1])) / 2, 1e-12)


def test_a_picture_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'plotting needs matplotlib: pip install "jacobians\[pl'):
        plotting.bars([1.0])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plotting.heat_map([1.0]), "heat_map: J: expected 2 axes"),
        (lambda r: plotting.heat_map([[1.0]], ["a", "b"]), "input_names: expected 1 names"),
        (lambda r: plotting.heat_map([[np.nan]]), r"heat_map: J\[0, 0\] is nan"),
        (lambda r: plotting.summary([1.0], [1.0, 2.0]), "as many x as y, but got 1 and 2"),
        (lambda r: plotting.bends(r.network, np.ones(10), [1.0]), r"expected shape \(10,\)"),
        (
            lambda r: plotting.kinks_along_line(r.network, np.ones(10), np.ones(10), output=1),
            "output: expected 0 to 0, not 1",
        ),
        (lambda r: r.plot("pie"), "kind: expected one of bars, .* but got 'pie'"),
        (lambda r: r.plot("bars", 1), "plot: output: expected a number below 1, but got 1"),
        (lambda r: r.plot("bars", "nobody"), "output: .nobody. is not one of progression"),
        (
            lambda r: r.plot("against input", 0, "weight"),
            "against: .weight. is not one of age, sex",
        ),
        (lambda r: r.plot(scale="metric"), "scale: expected 'original' or 'standard'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message, records):
    with pytest.raises(ValueError, match=message):
        draw(records["diabetes"])
