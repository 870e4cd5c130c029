"""Layers: what a network is made of.  Values only, forward only.

Every layer computes a preactivation from what comes in and applies its activation to it::

    z = preactivation(a)        a_next = sigma(z)

=========== ========================================================================================
base        Layer: what a layer states
affine      ``Dense(W, b, activation)``, ``Scale(scale, shift)``, ``Elementwise(activation, axis)``
norms       ``LayerNorm(scale, shift)``, ``RMSNorm(scale)``: along the last axis
joins       ``Add, Concatenate, Multiply, MatrixProduct``: two or more inputs
convolution ``Convolution(K, b, ...)``, ``TransposedConvolution``: one kernel at every position
pooling     ``MaxPool(size)``, ``AveragePool(size)``: of every window of a channel
shaping     ``Reshape, Permute, Slice, Pad, Gather``: entries chosen, moved, padded
=========== ========================================================================================

How a layer is differentiated is not its business: the rules stand together in ``linearization``.
A layer of your own is a subclass of ``Layer`` and one registered rule.
"""

from jacobians.layers.affine import Dense, Elementwise, Scale
from jacobians.layers.base import Layer, Shape
from jacobians.layers.convolution import Convolution, TransposedConvolution
from jacobians.layers.joins import Add, Concatenate, MatrixProduct, Multiply
from jacobians.layers.norms import LayerNorm, RMSNorm
from jacobians.layers.pooling import AveragePool, MaxPool
from jacobians.layers.shaping import Gather, Pad, Permute, Rearrangement, Reshape, Slice

__all__ = [
    "Add",
    "AveragePool",
    "Concatenate",
    "Convolution",
    "Dense",
    "Elementwise",
    "Gather",
    "Layer",
    "LayerNorm",
    "MatrixProduct",
    "MaxPool",
    "Multiply",
    "Pad",
    "Permute",
    "RMSNorm",
    "Rearrangement",
    "Reshape",
    "Scale",
    "Shape",
    "Slice",
    "TransposedConvolution",
]
