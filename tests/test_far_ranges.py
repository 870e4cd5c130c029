"""Networks that have values only near some points: whoever knows such a point plans there."""

import numpy as np
import pytest

import jacobians as jb

NEAR = [-9.001, 1.0]
W = [[1e3, 0.0], [0.0, 1.0]]
FAR = jb.Network(  # exp of 1e3 x + 9e3: at most 709 is in range, so not at 0, nor a random point
    [jb.Dense(W, [9000.0, 0.0], "exp"), jb.Dense([[1.0, 2.0], [3.0, 4.0], [1.0, -1.0]])]
)
X = np.add.outer(np.linspace(0, 1e-3, 9), NEAR)

USES = {
    "jacobian": lambda: jb.jacobian(FAR, X),
    "some columns": lambda: jb.jacobian(FAR, X, columns=[1]),
    "a point": lambda: jb.jacobian(FAR, X[0]),
    "value and Jacobian": lambda: jb.value_and_jacobian(FAR, X),
    "jvp": lambda: jb.jvp(FAR, X, X),
    "vjp": lambda: jb.vjp(FAR, X, X @ np.ones((2, 3))),
    "Hessian": lambda: jb.hessian(FAR, X),
    "bound": lambda: jb.jacobian_with_bound(FAR, X),
    "certificate": lambda: jb.certify(FAR, X[0]).checks,
    "error bars": lambda: jb.error_bars(FAR, X, std=[1e-4, 1e-4]),
    "sensitivity": lambda: jb.sensitivity(FAR, X),
    "some outputs": lambda: jb.sensitivity(FAR, X, outputs=[0, 2]),
    "explanation": lambda: jb.explain(FAR, X[0], X[1]),
    "page": lambda: jb.sensitivity(FAR, X).to_html(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_point_that_is_given_is_where_the_network_is_asked(use):
    with pytest.raises(jb.NotFiniteError):
        jb.plan(FAR)
    assert use() is not None
