"""The Jacobian of a trained network: see it, trust it, use it.

A trained feedforward network is a composition of maps, and its derivative at a point is a product
of matrices, ``dH/dx = D^L W^L ... D^1 W^1`` with ``D^l = diag(sigma'(z^l))``::

    network --(x)--> trace --> linearization = product of structured maps
                       |
                       +--> explicit | backprop | engine | rounding --> certificate

The modules, each importing only those above it:

===================== ==============================================================================
vectorization         vec, unvec, vech: the only place that knows the stacking order
maps                  structured linear maps: Kronecker, Diagonal, Product, Blocks, ...
activations, layers   sigma with its derivatives; Dense, Scale, Elementwise
losses                value and cotangent at the output
network               Network, an immutable sequence of layers
tracing               what is seen on the way at a point
linearization         the trace as a chain of maps: factors, jvp, vjp, parameter Jacobians
explicit              the formulas of the notes, literally, with np.diag and np.kron
backprop              one reverse sweep, elementwise
planning, engine      the batched Jacobian: a cheap order, in pieces within a byte budget
rounding              the proved bound on the difference of any two of these
certificate           every identity at a point: difference, bound, verdict
witness               evidence from callables only: differences, complex step, dot test
second_order          Hessians in the inputs; curvature in the parameters as maps, and posteriors
conventions           rows and other layouts, layer numbers from 1: exact both ways
units                 networks of single units on a directed graph, as matrices and as paths
sensitivities         what the Jacobians of a data set say about inputs and outputs; error bars
explanation           why this prediction: contributions of the inputs, exact between kinks
plotting, reports     pictures with matplotlib; a page of its own with jinja2 (extras)
strategies            Hypothesis strategies for your own property tests (an extra)
importers             trained elsewhere: scikit-learn, PyTorch, Keras, ONNX, safetensors (extras)
files, data, cli      npz in and out; two trained networks with real inputs; the command line
===================== ==============================================================================

>>> import numpy as np, jacobians as jb
>>> net = jb.Network.random([4, 16, 2], seed=0)
>>> jb.jacobian(net, np.zeros((100, 4))).shape
(100, 2, 4)
>>> jb.certify(net, np.ones(4)).holds
True
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors read; at run time names load on first use
    from jacobians import backprop, conventions, explicit, plotting, witness
    from jacobians._checks import (
        DomainError,
        ModelFormatError,
        NotFiniteError,
        ShapeError,
        TooLargeError,
        dense_limit,
    )
    from jacobians._graph import Parallel, Residual
    from jacobians.activations import Activation, VectorActivation, activation
    from jacobians.bounds import jacobian_with_bound
    from jacobians.certificate import Certificate, certify
    from jacobians.configuration import show_config
    from jacobians.derivation import Derivation, derive
    from jacobians.diagnosis import Diagnosis, diagnose
    from jacobians.engine import jacobian, jvp, value_and_jacobian, vjp
    from jacobians.explanation import Explanation, explain
    from jacobians.files import load, save
    from jacobians.gradients import Gradients
    from jacobians.importers import from_keras, from_onnx, from_sklearn, from_torch
    from jacobians.layers import (
        Add,
        AveragePool,
        Concatenate,
        Convolution,
        Dense,
        Elementwise,
        Gather,
        Layer,
        LayerNorm,
        MatrixProduct,
        MaxPool,
        Multiply,
        Pad,
        Permute,
        Reshape,
        RMSNorm,
        Scale,
        Slice,
        TransposedConvolution,
    )
    from jacobians.linearization import Linearization, linearize
    from jacobians.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
    from jacobians.maps import (
        BlockDiagonal,
        Blocks,
        Commutation,
        Diagonal,
        DiagonalPlusLowRank,
        Duplication,
        Elimination,
        Identity,
        Kronecker,
        LinearMap,
        Matrix,
        Product,
        Selection,
        Substitution,
        Sum,
    )
    from jacobians.network import Network
    from jacobians.planning import Plan, plan
    from jacobians.second_order import hessian, hvp, value_jacobian_hessian
    from jacobians.second_order.posteriors import Posterior, laplace
    from jacobians.second_order.records import Curvature, curvature
    from jacobians.sensitivities import (
        ActiveSubspace,
        Comparison,
        Sensitivity,
        compare,
        sensitivity,
    )
    from jacobians.sensitivities.error_bars import ErrorBars, error_bars
    from jacobians.sensitivities.interactions import Interactions, interactions
    from jacobians.sensitivities.log_odds import log_odds
    from jacobians.tracing import Trace, trace
    from jacobians.units import UnitGraph
    from jacobians.vectorization import unvec, vec, vech
else:
    from importlib import import_module
    from importlib.util import find_spec

    _HOMES = {  # module: its names up here, the same as above
        "_checks": "DomainError ModelFormatError NotFiniteError ShapeError TooLargeError "
        "dense_limit",
        "_graph": "Parallel Residual",
        "activations": "Activation VectorActivation activation",
        "bounds": "jacobian_with_bound",
        "certificate": "Certificate certify",
        "configuration": "show_config",
        "derivation": "Derivation derive",
        "diagnosis": "Diagnosis diagnose",
        "engine": "jacobian jvp value_and_jacobian vjp",
        "explanation": "Explanation explain",
        "files": "load save",
        "gradients": "Gradients",
        "importers": "from_keras from_onnx from_sklearn from_torch",
        "layers": "Add AveragePool Concatenate Convolution Dense Elementwise Gather Layer "
        "LayerNorm MatrixProduct MaxPool Multiply Pad Permute Reshape RMSNorm Scale Slice "
        "TransposedConvolution",
        "linearization": "Linearization linearize",
        "losses": "BinaryCrossEntropy CrossEntropy Loss SquaredError",
        "maps": "BlockDiagonal Blocks Commutation Diagonal DiagonalPlusLowRank Duplication "
        "Elimination Identity Kronecker LinearMap Matrix Product Selection Substitution Sum",
        "network": "Network",
        "planning": "Plan plan",
        "second_order": "hessian hvp value_jacobian_hessian",
        "second_order.posteriors": "Posterior laplace",
        "second_order.records": "Curvature curvature",
        "sensitivities": "ActiveSubspace Comparison Sensitivity compare sensitivity",
        "sensitivities.error_bars": "ErrorBars error_bars",
        "sensitivities.interactions": "Interactions interactions",
        "sensitivities.log_odds": "log_odds",
        "tracing": "Trace trace",
        "units": "UnitGraph",
        "vectorization": "unvec vec vech",
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

    def __getattr__(name):
        """Load a name, or a module, on its first use (PEP 562)."""
        path = f"jacobians.{_HOME_OF.get(name, name)}"
        if name.startswith("_") or find_spec(path) is None:
            raise AttributeError(f"module 'jacobians' has no attribute {name!r}")
        module = import_module(path)
        value = globals()[name] = getattr(module, name) if name in _HOME_OF else module
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    # networks
    "Activation",
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
    "Network",
    "Pad",
    "Parallel",
    "Permute",
    "RMSNorm",
    "Reshape",
    "Residual",
    "Scale",
    "Slice",
    "TransposedConvolution",
    "VectorActivation",
    "activation",
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "load",
    "save",
    # losses
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Loss",
    "SquaredError",
    # derivatives
    "Gradients",
    "Linearization",
    "Plan",
    "Trace",
    "backprop",
    "conventions",
    "explicit",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "plan",
    "trace",
    "value_and_jacobian",
    "value_jacobian_hessian",
    "vjp",
    # matrix calculus
    "BlockDiagonal",
    "Blocks",
    "Commutation",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Duplication",
    "Elimination",
    "Identity",
    "Kronecker",
    "LinearMap",
    "Matrix",
    "Product",
    "Selection",
    "Substitution",
    "Sum",
    "dense_limit",
    "unvec",
    "vec",
    "vech",
    # evidence
    "Certificate",
    "Derivation",
    "Diagnosis",
    "certify",
    "derive",
    "diagnose",
    "jacobian_with_bound",
    "witness",
    # networks of single units
    "UnitGraph",
    # second order
    "Curvature",
    "Posterior",
    "curvature",
    "laplace",
    # data sets
    "ActiveSubspace",
    "Comparison",
    "ErrorBars",
    "Explanation",
    "Interactions",
    "Sensitivity",
    "compare",
    "error_bars",
    "explain",
    "interactions",
    "log_odds",
    "plotting",
    "sensitivity",
    # what runs here
    "show_config",
    # errors
    "DomainError",
    "ModelFormatError",
    "NotFiniteError",
    "ShapeError",
    "TooLargeError",
]
