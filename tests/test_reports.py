"""The page of a report: self-contained, complete, the same each time, safe with any name."""

import base64
import html.parser
import json
import os
import re
import sys
from dataclasses import dataclass

import matplotlib
import numpy as np
import pytest
from zoo import NETWORKS

import jacobians as jb
from jacobians import reports
from jacobians.data import bundle
from jacobians.linearization import layer_map
from jacobians.sensitivities.page import _layers
from jacobians.sensitivities.pictures import KINDS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

VOID = {"meta", "img", "br", "input", "hr", "link"}


class Page(html.parser.HTMLParser):
    """Read a page: its tags must nest, and its words and addresses are kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.addresses, self.ids = [], [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            assert values["alt"], "a picture says in words what it shows"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def small(**options):
    net = jb.Network.random([3, 4, 2], seed=0)
    X = np.random.default_rng(0).normal(size=(30, 3))
    return jb.sensitivity(net, X, **options)


@pytest.fixture(scope="module")
def diabetes():
    data = bundle("diabetes")
    physical = {"progression": "points", "bmi": "kg/m²"}
    record = jb.sensitivity(data.network, data.inputs, units=physical)
    certificate = jb.certify(data.network, data.inputs[0])
    provenance = {"command": "jacobians report diabetes"}
    text = record.to_html(title="A study", certificates=[certificate], provenance=provenance)
    return record, text


def test_the_page_says_everything(diabetes):
    """Network, question, tables, pictures, certificate, how to reproduce it."""
    record, text = diabetes
    page = Page(text)
    for words in (
        "A study",
        "progression answers most to bmi : it rises with it at every point",
        "points / (kg/m²) on average",
        "Network 10-10-8-1-1 float64, 97 parameters",
        "1 output with respect to 10 inputs, computed in float64 at 142 points",
        "all of them hold",
        "jacobians report diabetes",
        "random groups of points",
        "Sobol bound",
    ):
        assert words in page.words
    for name in record.input_names:
        assert page.words.count(name) >= 2
    for heading in ("short", "reading", "network", "influence", "whole", "certificate", "again"):
        assert heading in page.ids
        assert f"#{heading}" in page.addresses
    # chain, bars, violins, against input, subspace, summary, interactions
    assert page.tags.count("img") == 7
    assert page.tags.count("caption") == page.tags.count("table")
    assert "importance = sqrt(E[(dy/dx)^2]) sd(x)/sd(y)" in page.words  # what "most" goes by
    assert "s1 and s2 (r = 0.90)" in page.words
    assert "bmi and s5" in page.words  # the strongest interaction


def test_the_numbers_on_the_page_are_those_of_the_record(diabetes):
    record, text = diabetes
    words = Page(text).words
    low, high = record.interval("mean")
    for j in range(10):
        shown = [reports.number(array[0, j]) for array in (record.mean, low, high)]
        assert "{} [ {}, {}]".format(*shown).replace("[ ", "[") in words
    assert reports.number(record.norm_quantile(1.0)) in words


@pytest.mark.parametrize("name", ["convolutions and pools", "branches that share nodes", "norms"])
def test_the_table_of_layers_counts_what_every_node_reads_and_learns(name):
    net = NETWORKS[name]
    layers = _layers(net)
    assert sum(layer["parameters"] for layer in layers) == net.parameter_count > 0
    for layer, sources in zip(layers, net.sources, strict=True):
        assert layer["inputs"] == sum(net.widths[s] for s in sources)


def test_the_page_can_be_read_printed_and_heard(diabetes):
    """Main part, scopes, regions for the keyboard, a dark scheme, texts that state findings."""
    text = diabetes[1]
    assert text.count("<main>") == text.count("</main>") == 1
    assert not re.findall(r"<th(?![^>]*scope=)[ >]", text)
    scrolls = re.findall(r'<div class="scroll"[^>]*>', text)
    assert scrolls
    assert all('role="region"' in one and 'tabindex="0"' in one for one in scrolls)
    for words in (
        "prefers-color-scheme: dark",
        ":focus-visible",
        "@media print",
        "details-content",
    ):
        assert words in text
    alts = re.findall(r'alt="([^"]*)"', text)
    assert "progression rises with bmi, rises with s5, rises with bp." in alts[1]
    assert all(len(alt) > 30 for alt in alts)


def test_bounds_that_say_nothing_are_no_numbers():
    """Of y = sin 9x a bound is far above 1: null in JSON, a dash on the page."""
    net = jb.Network([jb.Dense([[9.0]], activation="sin")])
    record = jb.sensitivity(net, np.random.default_rng(0).normal(size=(100, 1)))
    assert record.sobol_bound("normal")[0, 0] > 10
    numbers = json.loads(record.to_json())["derivatives"]["y1"]["x1"]
    assert numbers["sobol_normal"] is None
    assert numbers["sobol_uniform"] is None
    assert "<td>– / –</td>" in record.to_html()


def test_rows_are_sorted_by_importance(diabetes):
    record, text = diabetes
    table = text[text.index('id="influence"') : text.index('id="whole"')]
    shown = re.findall(r'<tr><th scope="row">(\w+)</th>', table)
    sizes = record.statistic("importance")[0]
    assert shown == [record.input_names[j] for j in np.argsort(-sizes)]


def test_the_page_is_self_contained(diabetes):
    """No scripts, no connections: every address is a picture inside or a place on the page."""
    page = Page(diabetes[1])
    assert "script" not in page.tags
    assert "link" not in page.tags
    for address in page.addresses:
        assert address.startswith(("data:image/svg+xml;base64,", "#"))
    assert "default-src 'none'" in diabetes[1]
    for picture in re.findall(r"base64,([A-Za-z0-9+/=]+)", diabetes[1]):
        assert base64.b64decode(picture).lstrip().startswith(b"<?xml")


def test_the_page_is_the_same_each_time():
    assert small().to_html() == small().to_html()


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a & b", '"quoted"', "$x^2$", "\u202ereversed", "日本語"]
)
def test_no_name_can_break_the_page(name):
    """Names come from files: they are shown as they are, or not at all."""
    record = small(input_names=[name, "b", "c"], output_names=["u", f"{name} too"])
    text = record.to_html(title=name, provenance={name: name})
    page = Page(text)
    assert "script" not in page.tags
    assert name.replace("\u202e", "�") in page.words


def test_small_and_odd_records_have_pages():
    """One point, one input, one output, what was left out, constants, images."""
    net = jb.Network([jb.Dense([[2.0]], [1.0])])
    for record in (
        jb.sensitivity(net, [[1.0]]),
        jb.sensitivity(net, [[1.0], [1.0]]),
        jb.sensitivity(net, [[1.0], [2.0]], subspace=False, singular_values=False),
        jb.sensitivity(jb.Network([jb.Dense(np.zeros((2, 3)))]), np.eye(3)),
        small(inputs=[1], outputs=[0]),
        jb.sensitivity(bundle("digits").network, bundle("digits").inputs[:20]),
        jb.sensitivity(jb.Network.random([50, 35], seed=0), np.eye(50)),
    ):
        assert "Sensitivity report" in Page(record.to_html()).words


@dataclass(frozen=True, eq=False)
class Product(jb.Layer):
    """z = (a_1 a_2, a_2 a_3): a derivative that depends on the point, and is not square."""

    def output_width(self, inputs):
        return 2

    def preactivation(self, a):
        return a[..., :2] * a[..., 1:]


@layer_map.register
def _(layer: Product, a):
    zero = np.zeros_like(a[..., 0])
    rows = [[a[..., 1], a[..., 0], zero], [zero, a[..., 2], a[..., 1]]]
    return jb.Matrix(np.moveaxis(np.array(rows), (0, 1), (-2, -1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_of_the_users_own_works_through_everything(dtype):
    """Laws, outside evidence, statistics, shards, error bars, pictures and page, in any dtype."""
    first, last = jb.Network.random([4, 3], seed=0).layers[0], jb.Network.random([2, 2]).layers[0]
    net = jb.Network([first, Product(), jb.Elementwise("tanh"), last], inputs=4).astype(dtype)
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(dtype)
    assert jb.certify(net, X[0]).holds
    J, bound = jb.jacobian_with_bound(net, X)
    assert (np.abs(J - jb.linearize(net, X).jacobian()) <= 2 * bound).all()
    record = jb.sensitivity(net, X[:7]).merge(jb.sensitivity(net, X[7:]))
    allowed = 200 * np.finfo(dtype).eps * np.abs(J).max()
    assert np.abs(record.mean - J.astype(float).mean(axis=0)).max() <= allowed
    assert jb.error_bars(net, X, std=np.ones(4)).std.shape == (20, 2)
    for kind in set(KINDS) - {"saliency"}:
        record.plot(kind).figure.canvas.draw()
    assert "Product" in Page(record.to_html()).words


def test_a_failed_certificate_is_said_in_red(monkeypatch):
    right = jb.backprop.jacobian
    monkeypatch.setattr(jb.backprop, "jacobian", lambda trace: 1.001 * right(trace))
    record = small()
    text = record.to_html(certificates=[jb.certify(record.network, np.ones(3))])
    assert "Not certified" in text
    assert "some of them fail" in text


def test_writing_replaces_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small().to_html(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]
    text = small().to_html(path)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_page_says_which_extra_it_needs(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "jacobians\[report\]"'):
        small().to_html()


def test_confidence_is_checked():
    with pytest.raises(ValueError, match="to_html: confidence: expected a confidence between"):
        small().to_html(confidence=95)


def test_no_figure_is_left_with_pyplot():
    small().to_html()
    assert plt.get_fignums() == []
