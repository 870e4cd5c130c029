"""Draw a picture for each identity: the matrices of the small network, as coloured squares.

    python paper_notes/pictures/draw.py        # writes identity_1.svg to identity_12.svg beside it

Every square is a number of the network in ``identities.md``, computed by the library: blue where it
is positive, red where it is negative, darker where it is larger, nothing where it is zero.
"""

from pathlib import Path

import numpy as np

import jacobians as jb

CELL, GAP, TOP = 16, 14, 26


def square(x, y, value, largest):
    """Draw one entry."""
    shade = 0.25 + 0.75 * abs(value) / largest if value else 0
    colour = "#1f5f99" if value > 0 else "#b3352c"
    return (
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" '
        f'fill-opacity="{shade:.2f}" stroke="#bbb"/>'
    )


def equation(*parts):
    """Draw matrices (name, array) and signs in a row."""
    tall = max(len(np.atleast_2d(p[1])) for p in parts if isinstance(p, tuple))
    x, out = GAP, []
    for part in parts:
        if isinstance(part, str):
            out.append(f'<text x="{x + 4}" y="{TOP + tall * CELL / 2 + 5}">{part}</text>')
            x += 14 + 6 * len(part)
            continue
        name, M = part[0], np.atleast_2d(np.asarray(part[1], float))
        (m, n), y, largest = M.shape, TOP + (tall - len(M)) * CELL / 2, np.abs(M).max() or 1
        width = max(n * CELL, 7 * len(name))
        x += (width - n * CELL) / 2
        out.append(f'<text x="{x + n * CELL / 2}" y="{y - 6}" text-anchor="middle">{name}</text>')
        out += [
            square(x + j * CELL, y + i * CELL, M[i, j], largest) for i in range(m) for j in range(n)
        ]
        below = f'{x + n * CELL / 2}" y="{y + m * CELL + 12}" text-anchor="middle" font-size="9"'
        out.append(f'<text x="{below} fill="#777">{m}×{n}</text>')
        x += (width + n * CELL) / 2 + GAP
    size = f'width="{x:.0f}" height="{TOP + tall * CELL + 18}"'
    style = 'font-family="Georgia, serif" font-size="13"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *out, "</svg>\n"])


def pictures():
    """Return the pictures by number."""
    W1, W2 = np.array([[1, 2], [0, 1], [3, -1]]), np.array([[1, -1, 2], [2, 0, 1]])
    net = jb.Network([jb.Dense(W1, [0, 1, 0], "square"), jb.Dense(W2)])
    x = np.array([1.0, 2.0])
    trace, lin = jb.trace(net, x), jb.linearize(net, x)
    D, J = jb.explicit.activation_jacobian(trace, 1), jb.explicit.input_jacobian(trace)
    D2 = np.eye(2)
    column, row = x[:, None], x[None]
    vec = jb.vec(W1)[:, None]
    wide = jb.explicit.preactivation_weight_jacobian(trace, 1)
    P = jb.explicit.bias_jacobian(trace, 1)
    c = trace.output - [16, 50]
    delta2, delta1 = jb.backprop.deltas(trace, c)[::-1]
    v, u = np.array([[1.0], [-1.0]]), np.array([[2.0], [1.0]])
    h = 1 / 4
    steps = [(net(x + h * e) - net(x - h * e)) / (2 * h) for e in np.eye(2)]
    S = np.diag(2 * W2.T @ [1, 2])  # sigma'' of a square is 2, and u = (1, 2)
    e = np.array([[1], [0]])
    return {
        1: equation(("diag(d)", D), ("W", W1), "=", ("d ⊙ W", D @ W1)),
        2: equation(("aᵀ ⊗ I", wide), ("vec(W)", vec), "=", ("W", W1), ("a", column)),
        3: equation(("D", D), ("aᵀ ⊗ I", wide), "=", ("aᵀ ⊗ D", np.kron(row, D))),
        4: equation(("dH/dz", P), ("aᵀ ⊗ I", wide), "=", ("aᵀ ⊗ dH/dz", np.kron(row, P))),
        5: equation(("dH/dx", J), "=", ("D²", D2), ("W²", W2), ("D¹", D), ("W¹", W1)),
        6: equation(("J", J), ("e", [[0], [1]]), "=", ("column", lin.jvp([0, 1])[:, None])),
        7: equation(
            ("δ¹", delta1[:, None]), "=", ("D¹", D), ("W²ᵀ", W2.T), ("δ²", delta2[:, None])
        ),
        8: equation(("dC/dW", np.outer(delta1, x)), "=", ("δ", delta1[:, None]), ("aᵀ", row)),
        9: equation(("uᵀ", u.T), ("J v", J @ v), "=", ("(Jᵀ u)ᵀ", (J.T @ u).T), ("v", v)),
        10: equation(("differences", np.stack(steps, axis=1)), "=", ("J", J)),
        11: equation(
            ("Hessian", lin.hessian([1, 2]).to_dense()), "=", ("Pᵀ", W1.T), ("S", S), ("P", W1)
        ),
        12: equation(
            ("column", jb.hvp(net, x, e[:, 0], [1, 2])[:, None]),
            "=",
            *(("Pᵀ", W1.T), ("S", S), ("ż = P e", W1 @ e)),
        ),
    }


if __name__ == "__main__":
    for number, picture in pictures().items():
        path = Path(__file__).parent / f"identity_{number}.svg"
        path.write_text(picture, encoding="utf-8")
        print(path.name)
