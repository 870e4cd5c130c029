"""How do I add a layer of my own?  One class for its values, one rule for its derivative."""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import jacobians as jb
from jacobians.linearization import layer_map


@dataclass(frozen=True, eq=False)
class SquaredDistances(jb.Layer):
    """z_k = -|a - c_k|²: with exp behind it, a layer of radial basis functions."""

    centres: np.ndarray  # (m, n)
    activation = jb.activation("exp")

    def output_width(self, inputs):
        return len(self.centres)

    def preactivation(self, a):
        return -((a[..., None, :] - self.centres) ** 2).sum(axis=-1)


@layer_map.register
def _(layer: SquaredDistances, a):
    return jb.Matrix(-2 * (a[..., None, :] - layer.centres))  # dz_k/da = -2 (a - c_k)


# Fit sin(2 x1) + x2² by least squares on 60 bumps; then everything works with the new layer.
rng = np.random.default_rng(0)
X, bumps = rng.uniform(-1, 1, (400, 2)), SquaredDistances(rng.uniform(-1.5, 1.5, (60, 2)))
weights = np.linalg.lstsq(bumps(X), np.sin(2 * X[:, 0]) + X[:, 1] ** 2, rcond=1e-13)[0]
net = jb.Network([bumps, jb.Dense(weights[None])], inputs=2)
truth = np.stack([2 * np.cos(2 * X[:, 0]), 2 * X[:, 1]], axis=1)[:, None, :]
print(f"{net}\nlargest error of a derivative: {np.abs(jb.jacobian(net, X) - truth).max():.1e}")
assert np.abs(jb.jacobian(net, X) - truth).max() < 0.1  # what the fit leaves, of 2
assert jb.certify(net, X[0]).holds  # laws
with TemporaryDirectory() as folder:  # report and pictures: kept where a path is given
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report.html"
    jb.sensitivity(net, X).to_html(page)
    print(f"{page.name}: {page.stat().st_size // 1024} KiB")
    assert "SquaredDistances" in page.read_text(encoding="utf-8")
