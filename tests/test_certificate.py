"""The certificate holds on the zoo, and says no as soon as any computation is wrong."""

from dataclasses import replace
from pathlib import Path

import extremes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import NETWORKS, points

import jacobians as jb
from jacobians import _evidence
from jacobians import certificate as module
from jacobians.second_order import identities

every_network = pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS.keys())
net = NETWORKS["tanh hidden"]
x = points(net, 1)[0]


@every_network
def test_every_identity_holds_on_the_zoo(net):
    certificate = jb.certify(net, points(net, 1)[0])
    assert certificate.holds, str(certificate)
    assert not certificate.left_out
    assert len(certificate) >= 12


def test_exact_networks_are_certified_bit_for_bit():
    whole = jb.Network(
        [jb.Dense([[1, 2], [0, 1], [3, -1]], [0, 1, 0], "relu"), jb.Dense([[1, -1, 2]])]
    )
    certificate = jb.certify(whole, [1.0, 2.0])
    inexact = [check.identity for check in certificate if not check.exact]
    # random vectors in the dot test and steps in the differences are not whole numbers
    assert set(inexact) <= {"<u, J v> = <Jᵀ u, v>", "differences of the values"}


WRONG_ACCOUNTS = {
    "diag(d) W = d * W": (jb.explicit, "activation_jacobian", lambda D: D * (1 + 2**-50)),
    "(aᵀ ⊗ I) vec(W) = W a": (jb.explicit, "preactivation_weight_jacobian", lambda K: K[:, ::-1]),
    "D (aᵀ ⊗ I) = aᵀ ⊗ D": (jb.explicit, "preactivation_weight_jacobian", lambda K: K[::-1]),
    "dH/dvec(W) = aᵀ ⊗ dH/dz": (jb.explicit, "preactivation_jacobian", lambda J: 1.0001 * J),
    "chain, outputs first": (module, "multiply_out", lambda J: J + 1e-9),
    "chain, inputs first": (module, "multiply_out", lambda J: J.astype(np.float32)),
    "chain, from the middle": (module, "multiply_out", lambda J: J * np.nan),
    "chain, cheapest order": (module, "jacobian_at", lambda J: -J),
    "structured maps": (jb.Linearization, "jacobian", lambda J: J[::-1]),
    "columns are JVPs": (jb.Linearization, "jvp", lambda v: v + 1e-12),
    "rows are VJPs": (jb.Linearization, "vjp", lambda v: v[::-1]),
    "rows are backprop sweeps": (jb.backprop, "jacobian", lambda J: 2 * J),
    "backprop = explicit gradients": (
        jb.backprop,
        "gradients",
        lambda g: jb.Gradients(
            g.loss,
            ({**g.parameters[0], "W": g.weights[0] * (1 + 1e-12)}, *g.parameters[1:]),
            g.deltas,
            g.inputs,
        ),
    ),
    "<u, J v> = <Jᵀ u, v>": (jb.Linearization, "jvp", lambda v: 1.0000001 * v),
    "differences of the values": (jb.Linearization, "jacobian", lambda J: J + 1e-6),
}


@pytest.mark.parametrize("identity", WRONG_ACCOUNTS)
def test_a_wrong_computation_is_found(monkeypatch, identity):
    """Each identity is broken on purpose, by as little as a few bits, and its line must fail."""
    home, name, spoil = WRONG_ACCOUNTS[identity]
    right = getattr(home, name)
    monkeypatch.setattr(home, name, lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    certificate = jb.certify(net, x)
    assert not certificate.holds
    assert not certificate
    verdicts = {check.identity: check.verdict for check in certificate}
    assert verdicts[identity] == "FAILS"
    assert "FAILS" in str(certificate)


def test_every_identity_of_the_certificate_is_broken_by_a_test():
    assert {check.identity for check in jb.certify(net, x)} == set(WRONG_ACCOUNTS)


def test_nan_is_a_violation():
    check = module._compare(
        "nan", "0", [(np.array([np.nan]), np.array([0.0]), np.array([1.0]))], False
    )
    assert not check.holds


def test_a_certificate_prints_as_an_aligned_table():
    text = str(jb.certify(net, x))
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("identity"))
    for word in ("notes", "difference", "bound", "ratio", "verdict"):
        assert word in header
    table = lines[lines.index(header) : lines.index(header) + 17]
    assert len({len(line) for line in table}) == 1
    assert lines[-2].startswith("15 of 15 identities hold, ")
    assert lines[-1].startswith("The bounds are about rounding")


def test_lines_that_claim_nothing_do_not_count_as_failed():
    """Two units at their kinks: a difference sees a sum of slopes that no one-sided choice is."""
    first = jb.Network(
        [jb.Dense([[1.0, -1.0], [1.0, 1.0]], activation="abs"), jb.Dense([[1.0, 1.0]])]
    )
    two_kinks = jb.certify(first, np.zeros(2))
    assert two_kinks.holds
    assert not two_kinks.checks[-1].claimed
    assert "14 of 14 identities hold, " in repr(two_kinks)
    assert repr(two_kinks).endswith("; nothing is claimed of 1")


def test_readme_and_notes_know_every_identity():
    root = Path(__file__).parent.parent
    readme = (root / "README.md").read_text(encoding="utf-8")
    notes = (root / "paper_notes" / "identities.md").read_text(encoding="utf-8")
    for check in jb.certify(net, x):
        assert check.identity in readme
        assert f"\n## {check.notes}. " in notes


def test_explicit_matrices_too_large_for_a_certificate_are_left_out_and_said_so():
    wide = jb.Network.random([400, 300, 2], seed=0)
    certificate = jb.certify(wide, np.zeros(400))
    left_out = [identity for identity, _ in certificate.left_out]
    assert "(aᵀ ⊗ I) vec(W) = W a" in left_out
    assert "not checked: (aᵀ ⊗ I) vec(W) = W a (its explicit matrices are too large" in str(
        certificate
    )
    assert certificate.holds


def test_a_point_on_a_kink_is_certified():
    kinked = jb.Network(
        [jb.Dense([[1.0, -1.0], [2.0, 1.0]], activation="relu"), jb.Dense([[1.0, 3.0]])]
    )
    assert jb.trace(kinked, [1.0, 1.0]).kinks()
    assert jb.certify(kinked, [1.0, 1.0]).holds


@settings(max_examples=40)  # a certificate takes a tenth of a second
@given(st.integers(0, 2**32 - 1))
def test_no_correct_network_is_condemned_at_an_extreme_point(seed):
    """Saturated, dead, tied, tiny and huge; ``extreme_certificates.py`` judges 10,000 of them."""
    certificate = extremes.judged(seed)
    assert certificate is None or certificate.holds, certificate


def test_most_extreme_networks_are_judged_and_most_differences_claim_something():
    certificates = [extremes.judged((0, k)) for k in range(60)]
    judged = [certificate for certificate in certificates if certificate is not None]
    assert len(judged) > 50
    assert sum(certificate.checks[-1].claimed for certificate in judged) > 40


@pytest.mark.parametrize("seed", [139, (0, 762), (0, 3386), (5, 640), (6, 903)], ids=str)
def test_networks_that_were_condemned_once_hold(seed):
    """Kinks of several units at once; of an even function; with a curve on one side; subnormal; out
    of the range of float64, and in that of float32 for its roundings.
    """
    assert extremes.judged(seed).holds


@every_network
def test_a_slope_that_is_off_by_a_percent_is_seen_by_differences_alone(net):
    """All other lines read the same slopes; only the values of the network know better."""
    x = points(net, 1)[0]
    for l, layer in enumerate(net.layers):
        sigma = layer.activation
        if not isinstance(sigma, jb.Activation) or sigma.name == "identity":
            continue

        def steep(z, f=sigma.sigma_prime, **parameters):
            return 1.01 * f(z, **parameters)

        bent = replace(sigma, sigma_prime=steep, into_memory=())
        layers = (*net.layers[:l], replace(layer, activation=bent), *net.layers[l + 1 :])
        wrong = net._with(layers=layers)
        if not np.array_equal(jb.jacobian(net, x), jb.jacobian(wrong, x)):
            assert not jb.certify(wrong, x).checks[-1].holds, layer


@settings(max_examples=3)  # a certificate of a pooled network takes a tenth of a second
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_windows_that_tie_behind_a_convolution_condemn_nothing(seed, dtype):
    """Flat, black and white, and coarse images: in most windows several entries are the largest.

    An input may move one of them that was not chosen: the differences see it, the chain does not.
    """
    rng = np.random.default_rng(seed)
    kernels = rng.normal(size=(2, 1, 3, 3)), rng.integers(-2, 3, (3, 2, 2, 2)).astype(float)
    net = jb.Network(
        [
            jb.Convolution(kernels[0], activation=rng.choice(["relu", "identity", "tanh"])),
            jb.MaxPool(2, stride=1),
            jb.Convolution(kernels[1], activation="relu"),
            jb.Dense(rng.normal(size=(2, 3))),
        ],
        inputs=(1, 5, 5),
    ).astype(dtype)
    for x in (np.full(25, 0.1), rng.integers(0, 2, 25), rng.integers(0, 3, 25) / 16, np.zeros(25)):
        assert jb.certify(net, x).holds, x


def test_differences_still_judge_the_inputs_that_no_tie_hangs_on():
    """Two windows, of which one ties: a wrong rule for the other is seen."""
    net = jb.Network([jb.MaxPool(2), jb.Dense(np.array([[2.0, 3.0]]))], inputs=(1, 4))
    line = jb.certify(net, [1.0, 1.0, 3.0, 2.0]).checks[-1]
    assert line.claimed
    assert line.holds
    lin = jb.linearize(net, [1.0, 1.0, 3.0, 2.0])
    allowed = _evidence.differences_of_values(lin)[2]
    assert np.isfinite(allowed).tolist() == [[True, True, True, True]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_differences_of_a_smooth_gradient_say_something(sign):
    """Whatever its sign, and where the Hessian is 0: every entry is allowed a small interval."""
    for sigma in ("identity", "tanh"):
        net = jb.Network([jb.Dense(sign * np.ones((2, 3)), activation=sigma)])
        ((H, _, allowed),) = identities._differences(jb.linearize(net, [0.1, 0.2, 0.4]))
        assert np.isfinite(allowed).all()
        assert allowed.max() < 1e-3
        assert np.abs(H).max() < 20


@pytest.mark.parametrize("depth", [3, 40, 400])
def test_of_a_deep_network_the_first_and_the_last_parameters_are_checked(depth):
    net = jb.Network([jb.Dense([[0.5]], [0.1], "tanh")] * depth)
    layers = [l for l, _ in module._with_parameters(jb.linearize(net, [0.3]))]
    assert (layers[0], layers[-1]) == (1, depth)
    assert len(set(layers)) == len(layers) >= 2
