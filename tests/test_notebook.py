"""What notebooks show: a table of the object under its one line, and nothing that could run."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from zoo import NETWORKS, points

import jacobians as jb

NET = jb.Network(
    [jb.Dense([[1, 2], [3, 4], [5, 6]], activation="tanh"), jb.Dense([[1, 0, -1]])],
    input_names=["age", "<script>"],
)
X = np.random.default_rng(0).normal(size=(30, 2))
SHOWN = {
    "network": (NET, ["Dense 2 -&gt; 3 tanh", ">6<"]),
    "plan": (jb.plan(NET, 10), ["W1", "3x2", "shared"]),
    "trace": (jb.trace(NET, [0.1, 0.2]), ["0.1 to 0.2", "Dense 3 -&gt; 1 identity"]),
    "certificate": (jb.certify(NET, [0.1, 0.2]), ["rows are backprop sweeps", "exact", "evidence"]),
    "sensitivity": (jb.sensitivity(NET, X), ["&lt;script&gt;", "age"]),
    "small map": (jb.Matrix([[0.125, 2.0]]), ["0.125"]),
    "product": (jb.linearize(NET, [0.0, 0.0]).chain, [">-4<"]),
}


class Balance(HTMLParser):
    """Counts the tags that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(("shown", "texts"), SHOWN.values(), ids=SHOWN.keys())
def test_an_object_is_shown_as_its_line_and_a_table(shown, texts):
    page = shown._repr_html_()
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    assert balance.seen <= {"table", "caption", "code", "thead", "tbody", "tr", "th", "td", "div"}
    for text in texts:
        assert text in page
    assert page.count("<caption") == 1


def test_what_is_too_large_for_a_table_is_one_line_or_ends_with_a_count():
    assert jb.Identity(40)._repr_html_() == "<code>Identity 40x40 float64</code>"
    stack = jb.linearize(NET, X).chain
    assert stack._repr_html_().startswith("<code>Product 30 x 1x2")
    deep = jb.Network.random([2] * 60, seed=0)._repr_html_()
    assert "... 20 more" in deep
    assert deep.count("<tr>") == 42


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_zoo_has_a_row_for_every_node(name):
    net = NETWORKS[name]
    assert net._repr_html_().count("<tr>") == net.depth + 2
    assert jb.trace(net, points(net, 1)[0])._repr_html_().count("<tr>") == net.depth + 2


def test_a_repr_is_one_short_line():
    """No object shows the insides of its record."""
    f = lambda x: 2.0 * x  # noqa: E731
    targets = np.zeros((30, 1))
    objects = [shown for shown, _ in SHOWN.values()]
    objects += [jb.activation("tanh"), jb.activation("softmax"), jb.SquaredError()]
    objects += [jb.witness.finite_difference(f, [1.0]), jb.witness.check_jacobian(f, [[2]], [1.0])]
    objects += [jb.derive(NET), jb.sensitivity(NET, X).active_subspace()]
    objects += [jb.error_bars(NET, X, std=[0.1, 0.2]), jb.linearize(NET, X)]
    mine = jb.backprop.gradients(NET, X, targets, jb.SquaredError())
    objects += [mine, jb.diagnose(mine, NET, X, targets, jb.SquaredError())]
    loss, bent = jb.SquaredError(), jb.curvature(NET, X, targets, jb.SquaredError())
    objects += [bent, bent.gauss_newton.kronecker()[1], jb.laplace(NET, X, targets, loss)]
    why = jb.explain(NET, X[0])
    objects += [why, why.completeness]
    for shown in objects:
        line = repr(shown)
        assert "\n" not in line
        assert not re.search(r"array\(|<function|\w+\(\w+=", line), line
