"""Outside witnesses that share no code with the library.

``Dual`` numbers over ``fractions.Fraction`` differentiate exactly; ``textbook`` evaluates networks
in complex arithmetic from formulas of its own, for the complex step.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

import jacobians as jb


@dataclass(frozen=True)
class Dual:
    """``value + slope ε`` with ``ε² = 0``: arithmetic on these carries the exact derivative."""

    value: Fraction
    slope: Fraction = Fraction(0)

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = dual(other)
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    def __neg__(self):
        return Dual(-self.value, -self.slope)

    def __sub__(self, other):
        return self + -dual(other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return dual(other) - self


def dual(x):
    """Take a number as a constant."""
    return x if isinstance(x, Dual) else Dual(Fraction(x))


# Activations on dual numbers, with the library's choice at a kink: the slope on the left.
EXACT_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: z if z.value > 0 else Dual(Fraction(0)),
    "leaky_relu": lambda z, slope: z if z.value > 0 else Fraction(slope) * z,
    "square": lambda z: z * z,
    "hard_tanh": lambda z, low, high: (
        z if low < z.value < high else Dual(Fraction(min(max(z.value, low), high)))
    ),
}


def exact_forward(layers, x):
    """Run dense layers ``(W, b, name, parameters)`` on dual numbers, with loops over indices."""
    a = [dual(entry) for entry in x]
    for W, b, name, parameters in layers:
        z = [sum((W[i][j] * a[j] for j in range(len(a))), start=dual(b[i])) for i in range(len(b))]
        a = [EXACT_ACTIVATIONS[name](entry, **parameters) for entry in z]
    return a


def as_fractions(net):
    """Copy a network of dense layers into nested lists of fractions."""
    return [
        (
            [[Fraction(float(w)) for w in row] for row in layer.W],
            [Fraction(float(b)) for b in (np.zeros(len(layer.W)) if layer.b is None else layer.b)],
            layer.activation.name,
            dict(layer.activation.parameters),
        )
        for layer in net.layers
    ]


def exact_input_jacobian(net, x):
    """Differentiate with respect to each input in turn, one dual run per input."""
    layers = as_fractions(net)
    x = [Fraction(float(entry)) for entry in x]
    columns = []
    for j in range(len(x)):
        seeded = [Dual(entry, Fraction(int(k == j))) for k, entry in enumerate(x)]
        columns.append([entry.slope for entry in exact_forward(layers, seeded)])
    return [[columns[j][i] for j in range(len(x))] for i in range(len(columns[0]))]


# --- complex arithmetic ---------------------------------------------------------------------------


def _erf(z):
    """The error function on small imaginary parts: erf(x + iy) = erf(x) + iy erf'(x)."""
    from scipy.special import erf

    return erf(z.real) + 1j * z.imag * 2 / np.sqrt(np.pi) * np.exp(-z.real * z.real)


def _mish(z):
    return z * np.tanh(np.log1p(np.exp(z)))


def _softmax(z):
    e = np.exp(z - z.real.max())
    return e / e.sum()


TEXTBOOK = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: z * (1 + _erf(z / np.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "mish": _mish,
    "exp": np.exp,
    "sin": np.sin,
    "gaussian": lambda z: np.exp(-z * z),
    "square": lambda z: z * z,
    "softmax": _softmax,
    "log_softmax": lambda z: np.log(_softmax(z)),
}


def is_of_textbooks(net):
    """Tell whether a network is a chain of dense layers and scales with the activations above."""
    kinds = (jb.Dense, jb.Scale, jb.Elementwise)
    return net.is_path and all(
        type(layer) in kinds
        and layer.activation.name in TEXTBOOK
        and getattr(layer, "rows", 1) == 1
        and getattr(layer, "axis", None) is None
        for layer in net.layers
    )


def textbook(net):
    """Return a complex function of one point with the network's values."""

    def forward(x):
        a = np.asarray(x, dtype=complex)
        for layer in net.layers:
            if hasattr(layer, "W"):
                a = layer.W.astype(float) @ a + (0 if layer.b is None else layer.b)
            elif hasattr(layer, "scale"):
                a = layer.scale.astype(float) * a + layer.shift
            a = TEXTBOOK[layer.activation.name](a)
        return a

    return forward
