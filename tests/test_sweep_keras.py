"""Every layer of Keras is imported, with its values and derivatives, or is refused."""

import importlib.util
import os

import numpy as np
import pytest

import jacobians as jb

if importlib.util.find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")

import keras
from keras import layers
from test_importers_keras import _float64, assert_same, flattened, shaken  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")

VECTOR, TOKENS, IMAGE, VOLUME = (4,), (4, 6), (6, 5, 2), (4, 3, 4, 2)
DIMENSIONS = {"1D": TOKENS, "2D": IMAGE, "3D": VOLUME}
# A function where a layer takes another, which is made in the dtype of the test.
MADE = {
    "Activation": ("tanh",),
    "AdaptiveAveragePooling1D": (2,),
    "AdaptiveAveragePooling2D": ((3, 5),),
    "AdaptiveAveragePooling3D": ((2, 1, 2),),
    "AdaptiveMaxPooling1D": (2,),
    "AdaptiveMaxPooling2D": ((3, 5),),
    "AdaptiveMaxPooling3D": ((2, 1, 2),),
    "AlphaDropout": (0.5,),
    **{f"AveragePooling{n}D": (2,) for n in (1, 2, 3)},
    **{f"AvgPool{n}D": (2,) for n in (1, 2, 3)},
    **{f"Conv{n}D": (3, 2) for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": (3, 2) for n in (1, 2, 3)},
    **{f"Convolution{n}D": (3, 2) for n in (1, 2, 3)},
    **{f"Convolution{n}DTranspose": (3, 2) for n in (1, 2, 3)},
    **{f"ConvLSTM{n}D": (3, 2) for n in (1, 2, 3)},
    **{f"Cropping{n}D": (1,) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": (2,) for n in (1, 2)},
    **{f"SeparableConv{n}D": (3, 2) for n in (1, 2)},
    **{f"SeparableConvolution{n}D": (3, 2) for n in (1, 2)},
    **{f"SpatialDropout{n}D": (0.5,) for n in (1, 2, 3)},
    "Bidirectional": lambda: (layers.LSTM(3),),
    "CategoryEncoding": (4,),
    "CenterCrop": (3, 2),
    "Dense": (3,),
    "Discretization": (4,),
    "Dot": (1,),
    "Dropout": (0.5,),
    "EinsumDense": ("abc,cd->abd", (None, 3)),
    "Embedding": (5, 3),
    "GaussianDropout": (0.5,),
    "GaussianNoise": (0.5,),
    "GroupNormalization": (2,),
    "GroupQueryAttention": (3, 2, 1),
    **dict.fromkeys(("GRU", "LSTM", "SimpleRNN", "GRUCell", "LSTMCell", "SimpleRNNCell"), (3,)),
    "HashedCrossing": (3,),
    "Hashing": (3,),
    "Lambda": (lambda x: x * x,),
    "MaxNumBoundingBoxes": (3,),
    "MultiHeadAttention": (2, 3),
    "Permute": ((2, 1),),
    "RandomCrop": (3, 2),
    "RepeatVector": (3,),
    "Rescaling": (0.5,),
    "Reshape": ((-1,),),
    "Resizing": (3, 4),
    "ReversibleEmbedding": (4, 3),
    "RNN": lambda: (layers.GRUCell(3),),
    "SpectralNormalization": lambda: (layers.Dense(3),),
    "TimeDistributed": lambda: (layers.Dense(3),),
    "Wrapper": lambda: (layers.Dense(3),),
}
SHAPES = {
    **dict.fromkeys(
        ["EinsumDense", "GRU", "LSTM", "SimpleRNN", "RNN", "Bidirectional", "Permute"], TOKENS
    ),
    **dict.fromkeys(["MultiHeadAttention", "GroupQueryAttention", "TimeDistributed"], TOKENS),
    **dict.fromkeys(["Attention", "AdditiveAttention", "GroupNormalization", "Resizing"], TOKENS),
    **dict.fromkeys(["RandomCrop", "CenterCrop", "Solarization"], IMAGE),
    **{f"ConvLSTM{n}D": (2, *shape) for n, shape in ((1, TOKENS), (2, IMAGE), (3, VOLUME))},
}
LISTS = {"Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"}
PAIRS = {"Attention", "AdditiveAttention"}
TWICE = {"MultiHeadAttention": 2, "GroupQueryAttention": 2}
CLASSES = sorted(
    name
    for name, kind in vars(layers).items()
    if isinstance(kind, type) and issubclass(kind, layers.Layer)
)


def model_of(name):
    """Return a model around one layer, or None where Keras itself makes none."""
    shape = SHAPES.get(name)
    if shape is None:
        shape = next((s for end, s in DIMENSIONS.items() if end in name), VECTOR)
    x = keras.Input(shape)
    try:
        args = MADE.get(name, ())
        layer = getattr(layers, name)(*(args() if callable(args) else args))
        y = layer([x, 2.0 * x]) if name in LISTS | PAIRS else layer(*[x] * TWICE.get(name, 1))
        return shaken(keras.Model(x, y)), shape
    except Exception:  # of a layer without a call, for strings, or of another framework
        return None, shape


def imported(model):
    """Return the network, or None and the refusal; any other error is an error of the test."""
    try:
        return jb.from_keras(model), None
    except (NotImplementedError, ValueError) as err:
        return None, str(err)


@pytest.mark.parametrize("name", CLASSES)
def test_a_layer_of_keras_is_imported_and_right_or_refused(name):
    model, shape = model_of(name)
    if model is None:
        assert name in NOT_MADE | {"Lambda"}  # which some installations of Keras do not make
        return
    net, refusal = imported(model)
    assert (net is None) == (name in REFUSED), refusal
    if net is None:
        assert refusal.startswith("from_keras: ")
        assert len(refusal) < 500
        return
    X = np.random.default_rng(1).normal(size=(2, *shape))
    if name == "Attention":  # whose scores Keras rounds to float32
        expected = keras.ops.convert_to_numpy(model(X)).reshape(2, -1)
        # ten ulps of float32
        assert np.abs(net(X.reshape(2, -1)) - expected).max() <= 1e-6 * np.abs(expected).max()
    else:
        assert_same(net, flattened(model), X, 1e-10)


_REFUSED = """
    AdditiveAttention AugMix AutoContrast CategoryEncoding CenterCrop
    ContrastLimitedAdaptiveHistogramEqualization ConvLSTM1D ConvLSTM2D ConvLSTM3D CutMix
    Discretization Embedding Masking MaxNumBoundingBoxes MelSpectrogram MixUp RandAugment
    RandomColorJitter RandomCrop RandomElasticTransform RandomErasing RandomFlip
    RandomGaussianBlur RandomGrayscale RandomInvert RandomPerspective RandomShear Resizing
    ReversibleEmbedding Solarization UnitNormalization
"""
REFUSED = set(_REFUSED.split())
_NOT_MADE = """
    Equalization FlaxLayer GRUCell HashedCrossing Hashing InputLayer IntegerLookup JaxLayer
    LSTMCell Layer Pipeline RandomBrightness RandomColorDegeneration RandomContrast RandomHue
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomTranslation
    RandomZoom STFTSpectrogram SimpleRNNCell StackedRNNCells StringLookup TFSMLayer
    TextVectorization TorchModuleWrapper Wrapper
"""
NOT_MADE = set(_NOT_MADE.split())
