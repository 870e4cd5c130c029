"""Derivations: every line checked, in every convention, set in three ways, in linear time."""

import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians import strategies as jst
from jacobians.conventions import row_derivatives, to_row_form
from jacobians.derivation import CONVENTIONS
from jacobians.derivation.evaluation import Evaluation
from jacobians.derivation.evaluation import given as given_values
from jacobians.derivation.notation import laid_out
from jacobians.derivation.rules import Rules
from jacobians.derivation.terms import Apply, Rounding
from jacobians.rounding import chain_bound

NET = jb.Network(
    [jb.Dense([[1, 2], [0, 1], [3, -1]], [0, 1, 0], "square"), jb.Dense([[1, -1, 2], [2, 0, 1]])]
)
X, Y = np.array([1.0, 2.0]), np.array([16.0, 50.0])
RESIDUAL = jb.Network(
    [
        jb.Dense([[1, 2], [0, 1]], activation="square"),
        jb.Residual([jb.Dense([[1, -1], [2, 0]], [0, 1], "relu"), jb.Dense([[1, 1], [0, 3]])]),
        jb.Dense([[1, -2]]),
    ]
)


@settings(max_examples=40, deadline=None)
@given(jst.problems(max_depth=3, max_width=4))
def test_every_line_of_every_network_holds(problem):
    net, X, Y, loss, l2 = problem
    assert jb.derive(net, X, Y, loss, l2=l2).holds


@settings(max_examples=20, deadline=None)
@given(jst.exact_networks(max_depth=3, max_width=4), st.data())
def test_whole_numbers_are_exact(net, data):
    checks = [line.check for line in jb.derive(net, data.draw(jst.whole_points(net)))]
    assert all(check.difference == 0 for check in checks if check is not None)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("net", [NET, RESIDUAL], ids=["path", "residual"])
def test_lines_hold_in_every_convention_and_are_set(net, convention, tmp_path):
    y = np.arange(net.widths[-1]) + 3.0
    d = jb.derive(net, X, y, jb.SquaredError(), convention, l2=0.5)
    assert d.holds
    text = str(d)
    assert max(map(len, text.splitlines())) <= 100
    assert "[" in text
    d.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    HTMLParser().feed(page)
    assert page.count("<math") == page.count("</math>") > 10
    latex = d.to_latex(tmp_path / "page.tex")
    assert (tmp_path / "page.tex").read_text() == latex
    assert re.findall(r"\\usepackage\{(.*?)\}", latex) == ["amsmath"]


def lines_of(net, convention, loss=None, y=Y):
    """Return the numbers of every line as a convention lays its two sides out."""
    rules = Rules(net, loss or jb.SquaredError())
    values = Evaluation(rules, given_values(rules, X, y), Rounding.of(np.float64))
    for key, right in rules.lines().items():
        left, theirs = laid_out(rules.symbol(*key), right, convention)
        if any(isinstance(part, Apply) for part in right):  # functions are evaluated on columns
            continue

        def at(symbol):
            value = values(symbol)
            turned = symbol.role in convention.transposed
            return type(value)(*(np.swapaxes(p, -2, -1) if turned else p for p in value))

        yield key, left, at(left).number, theirs.evaluate(at, Rounding.of(np.float64)).number


@pytest.mark.parametrize("name", [name for name in CONVENTIONS if name != "002"])
def test_lines_laid_out_still_hold(name):
    """(A B)ᵀ = Bᵀ Aᵀ: what is printed is what is true, shapes included."""
    for key, left, number, right in lines_of(NET, CONVENTIONS[name]):
        assert number.shape == left.shape, key
        assert np.array_equal(number, right), key


def test_conventions_agree_with_the_functions_of_the_documents():
    rows = row_derivatives(NET, X, Y, jb.SquaredError())
    form = to_row_form(NET)
    numbers = {
        name: {k: n for k, _, n, _ in lines_of(NET, CONVENTIONS[name])} for name in CONVENTIONS
    }
    assert np.array_equal(numbers["000"]["dW", 1], rows.weights[0])
    assert np.array_equal(numbers["003"]["delta", 2], rows.preactivations[1])
    assert np.array_equal(numbers["001"]["dW", 2], form.gradients(X[None], Y[None])[0][1])


def test_letters_and_numbers_of_the_documents():
    lines = {name: str(jb.derive(NET, convention=name)) for name in CONVENTIONS}
    lines = {name: re.sub(" +", " ", text) for name, text in lines.items()}
    assert "z¹ = W¹ x + b¹" in lines["columns"]
    assert "a⁽¹⁾ = W⁽¹⁾ x + b⁽¹⁾" in lines["000"]
    assert "z¹ = x w¹ + b¹" in lines["001"]
    assert "nⱼ = Σᵢ wⱼᵢ xᵢ + bⱼ" in lines["002"]
    assert "z[2] = W[2] a[1] + b[2]" in lines["004"]


def test_softmax_and_cross_entropy_cancel():
    net = jb.Network.random([3, 4, 3], "tanh", "softmax", seed=0)
    d = jb.derive(net, [0.1, 0.2, 0.3], 1, jb.CrossEntropy())
    assert d.holds
    assert "δ² = a² − y" in str(d)
    assert "diag(a²) − a² (a²)ᵀ" in str(d)


def test_the_hessian_of_one_output_has_evidence():
    d = jb.derive(jb.Network.random([2, 3, 1], "tanh", seed=0), [0.1, 0.2])
    assert d.sections[-1].title == "The Hessian"
    assert d.sections[-1].lines[0].check.evidence
    assert d.holds


def test_a_wrong_line_fails():
    wrong = jb.Activation("wrong", np.tanh, np.tanh, lambda z: 0 * z)
    net = jb.Network([jb.Dense([[2.0]], activation=wrong), jb.Dense([[1.0]])])
    assert not jb.derive(net, [0.3]).holds  # the evidence for the Hessian does not know slopes


def test_long_chains_show_the_first_the_general_and_the_last_line():
    net = jb.Network.random([5, *[7] * 29, 3], "tanh", seed=0)
    start = time.perf_counter()
    text = str(jb.derive(net, np.ones(5)))
    assert time.perf_counter() - start < 10
    assert "for l = 2..29" in text
    assert "⋯" in text
    assert len(text.splitlines()) < 200


def test_time_is_linear_in_layers():
    def seconds(depth):
        net = jb.Network.random([5] * (depth + 1), "tanh", seed=0)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            str(jb.derive(net, np.ones(5)))
            times.append(time.perf_counter() - start)
        return min(times)

    seconds(8)
    assert seconds(160) < 40 * seconds(10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convention": "005"}, "convention: expected one of columns, 000"),
        ({"x": X, "loss": jb.SquaredError()}, "a loss at a point needs both x and y"),
        ({"x": X, "y": Y}, "a target needs a loss"),
        ({"l2": -1.0}, "derive: l2: expected a number of at least 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        jb.derive(NET, **arguments)


def test_a_page_to_play_with_is_one_file(tmp_path):
    net, x, y, loss = jb.derivation.example()
    assert jb.derive(net, x, y, loss).holds
    jb.derivation.to_interactive(net, x, tmp_path / "play.html")
    page = (tmp_path / "play.html").read_text()
    assert "src=" not in page
    assert "http" not in page
    assert '"W": [[1.0, 2.0], [-1.0, 1.0], [3.0, -1.0]]' in page
    with pytest.raises(ValueError, match="the page takes dense layers of up to 8"):
        jb.derivation.to_interactive(jb.Network.random([9, 2], seed=0), np.ones(9), tmp_path / "x")


def test_a_convolution_is_a_matrix():
    K = np.array([[[[1.0, -2.0], [3.0, 0.0]]]])
    net = jb.Network(
        [jb.Convolution(K, [1.0], "relu"), jb.Dense(np.ones((1, 4)))], inputs=(1, 3, 3)
    )
    d = jb.derive(net, np.arange(9.0), [1.0], jb.SquaredError())
    assert d.holds
    assert "as a matrix" in str(d)
    assert "∂C/∂vec(K¹)" in str(d)


@settings(max_examples=20, deadline=None)
@given(jst.networks(max_depth=4, max_width=4), st.data())
def test_derivations_lead_from_any_layer_to_any_other(net, data):
    """da^of/da^wrt: its lines hold, its last line is the Jacobian, and no other layer is shown."""
    of = data.draw(st.integers(1, net.depth))
    wrt = data.draw(st.integers(0, of - 1))
    x = data.draw(jst.points(net, 2.0))
    d = jb.derive(net, x, of=of, wrt=net.names[wrt])
    assert d.holds
    chain = next(section for section in d.sections if section.title == "The chain")
    J = jb.explicit.input_jacobian(jb.trace(net, x), of, wrt)
    value = chain.lines[-1].value
    assert value.shape == J.shape
    bound = chain_bound(jb.linearize(net, x).between(of, wrt), net.dtype).pair()
    assert (np.abs(value - J) <= bound).all()
    assert {line.left.layer for line in d} <= {None, "l", *range(wrt + 1, of + 1)}


def test_letters_of_another_end():
    text = str(jb.derive(jb.Network.random([2, 3, 2, 1], seed=0), of=2, wrt=1))
    assert "layer 2 by layer 1" in text
    assert "∂a²/∂a¹ = D²   W²" in text
    back = jb.derive(NET, X, Y, jb.SquaredError(), wrt=1)
    assert back.holds
    assert "∂C/∂a¹ = (W²)ᵀ δ²" in str(back)
    with pytest.raises(ValueError, match="of: a loss is a function of the output"):
        jb.derive(NET, X, Y, jb.SquaredError(), of=1)
    with pytest.raises(ValueError, match=r"derive: wrt: .* from 0 to 0"):
        jb.derive(NET, of=1, wrt=1)


def test_what_cancels_inside_a_layer_is_in_the_bound():
    """A LayerNorm of two entries: its derivative is nearly 0, its rounding is not."""
    net = jb.Network([jb.Dense([[3, 1], [2, 5]]), jb.LayerNorm(np.ones(2)), jb.Dense([[1, -2]])])
    assert jb.derive(net, [9.0, 7.0], [1.0], jb.SquaredError()).holds


def test_softmax_of_single_units_has_entries_off_the_diagonal():
    net = jb.Network.random([3, 4, 3], "tanh", "softmax", seed=0)
    text = str(jb.derive(net, convention="002"))
    assert "Dⱼₚ = h(nⱼ) Iⱼₚ − h(nⱼ) h(nₚ)" in text
    assert "Σᵢ Dⱼᵢ (Σ_m wᵢm" in text.replace("Σ_m ", "Σ_m ")
