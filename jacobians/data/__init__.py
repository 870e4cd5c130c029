"""Two small trained networks with real inputs, so that everything runs at once.

``digits``
    64-32-10, tanh and softmax, on 8x8 images of handwritten digits.  E. Alpaydin and C. Kaynak,
    *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository (1998), CC BY 4.0.
``diabetes``
    10-8-1, tanh, from ten measurements of a patient to the progression of the disease a year
    later, in the original units.  B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least angle
    regression", Annals of Statistics 32 (2004).

``examples/05_train_bundled_networks.py`` trained both, with this library's own gradients.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jacobians._checks import Array, Numbers, as_floats, freeze
from jacobians._npz import read_npz
from jacobians.files import load
from jacobians.network import Network

NAMES = ("digits", "diabetes")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network with inputs and targets that it was not trained on."""

    network: Network
    inputs: Array
    targets: Numbers


def bundle(name: str) -> Bundle:
    """Load a bundled network and its data.

    Parameters
    ----------
    name : str
        ``"digits"`` or ``"diabetes"``.

    Returns
    -------
    Bundle

    Raises
    ------
    ValueError
        If there is no bundle of that name.

    >>> digits = bundle("digits")
    >>> digits.network.widths, digits.inputs.shape
    ((64, 64, 32, 10), (360, 64))
    """
    if name not in NAMES:
        raise ValueError(f"bundle: name: expected one of {', '.join(NAMES)}, but got {name!r}.")
    folder = os.path.dirname(__file__)
    held_out = read_npz(os.path.join(folder, f"{name}_inputs.npz"))
    network = load(os.path.join(folder, f"{name}.npz"))
    inputs = as_floats(held_out["inputs"], f"{name}_inputs.npz: inputs")
    return Bundle(network, freeze(inputs), freeze(held_out["targets"]))
