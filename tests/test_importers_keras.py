"""Keras 3 models come in with their own values and the Jacobians of their backend."""

import importlib.util
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_keras

if importlib.util.find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")

import keras
from keras import layers
from keras.src.backend.common import dtypes

# of NumPy about torch, inside keras.ops.convert_to_numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(6)

if keras.config.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)


def compute_in(dtype):
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


@pytest.fixture(autouse=True)
def _float64(monkeypatch):
    """All backends but TensorFlow round products to float32, unless this table says otherwise."""
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    compute_in("float64")
    yield
    compute_in("float32")


def jacobian_by_backend(model, x):
    """Return the Jacobian by automatic differentiation, or None where it is not to be had."""
    if keras.config.backend() == "torch":
        import torch

        x = torch.tensor(x)
        return torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x).cpu().numpy()
    if keras.config.backend() == "jax":
        return np.asarray(jax.jacrev(lambda x: model(x[None])[0])(x))
    return None


def values(model, X):
    return np.asarray(
        keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(model(X, training=False)))
    )


def assert_same(net, model, X, derivative=1e-13):
    """Both round the same sums of some ten terms, so 1e-13 of the largest entry is far above what
    they may differ by, and far below any wrong formula."""
    expected = values(model, X)
    value = net(X.reshape(len(X), -1))
    assert np.abs(value - expected).max() <= 1e-13 * max(1, np.abs(expected).max())
    for x in X:
        J = jb.jacobian(net, x.ravel())
        theirs = jacobian_by_backend(model, x)
        if theirs is None:
            f = lambda x: values(model, x.reshape(X[:1].shape))[0]  # noqa: E731
            assert jb.witness.check_jacobian(f, J, x.ravel()).holds
        else:
            theirs = theirs.reshape(J.shape)
            assert np.abs(J - theirs).max() <= derivative * max(1, np.abs(theirs).max())


def points(*shape, count=3):
    return RNG.normal(size=(count, *shape))


def sequential(*chain, inputs=(4,)):
    """Build in float64, with biases, slopes and statistics that are not all 0 or 1."""
    model = keras.Sequential([keras.Input(inputs), *chain])
    return shaken(model)


def shaken(model):
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.dtype.startswith("float"):
            low = 0.5 if "variance" in weight.path else -1.0
            weight.assign(rng.uniform(low, 2, size=weight.shape))
    return model


# keras computes relu6(z + 3) / 6 and its derivative in pieces, with 1/6 of torch in float32
ROUNDED = {"hard_sigmoid": 2.0**-24}


# Keras's own functions of one argument, with the defaults they have there.
FUNCTIONS = {
    "linear": ("identity", {}),
    "relu": ("relu", {}),
    "relu6": ("relu6", {}),
    "leaky_relu": ("leaky_relu", {"slope": 0.2}),
    "elu": ("elu", {}),
    "celu": ("celu", {}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {}),
    "silu": ("silu", {}),
    "mish": ("mish", {}),
    "sigmoid": ("sigmoid", {}),
    "hard_sigmoid": ("hard_sigmoid", {}),
    "tanh": ("tanh", {}),
    "hard_tanh": ("hard_tanh", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "exponential": ("exp", {}),
    "softmax": ("softmax", {}),
    "log_softmax": ("log_softmax", {}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_activation_function_has_its_counterpart(name):
    for model in (
        sequential(layers.Dense(3, name), layers.Dense(2)),
        sequential(layers.Dense(3), layers.Activation(name), layers.Dense(2)),
    ):
        net = from_keras(model)
        ours, parameters = FUNCTIONS[name]
        assert net.layers[0].activation == jb.activation(ours, **parameters)
        assert_same(net, model, 2 * points(4, count=6), ROUNDED.get(name, 1e-13))


LAYERS = {
    "Dense": lambda: layers.Dense(5, "tanh", use_bias=False),
    "Activation": lambda: layers.Activation("selu"),
    "Normalization": lambda: layers.Normalization(mean=[1.0, 2.0, -3.0], variance=[4.0, 0.5, 2.0]),
    "Rescaling": lambda: layers.Rescaling(1 / 255, offset=-0.5),
    "BatchNormalization": lambda: layers.BatchNormalization(epsilon=0.01),
    "Flatten": lambda: layers.Flatten(),
    "Identity": lambda: layers.Identity(),
    "Dropout": lambda: layers.Dropout(0.5),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(0.5),
    "ReLU": lambda: layers.ReLU(),
    "LeakyReLU": lambda: layers.LeakyReLU(),
    "PReLU": lambda: layers.PReLU(shared_axes=[1]),
    "ELU": lambda: layers.ELU(alpha=1.5),
    "Softmax": lambda: layers.Softmax(),
}
VARIANTS = [
    lambda: layers.ReLU(max_value=0.5),
    lambda: layers.ReLU(negative_slope=0.25),
    lambda: layers.LeakyReLU(negative_slope=0.0),
    lambda: layers.Softmax(axis=1),
    lambda: layers.BatchNormalization(scale=False),
    lambda: layers.BatchNormalization(center=False),
    lambda: layers.Normalization(axis=None, mean=1.0, variance=0.5),
    lambda: layers.Normalization(mean=[1.0, 0.0, 2.0], variance=[4.0, 0.0, 1.0]),
    lambda: layers.Normalization(mean=2.0, variance=0.5, invert=True),
    lambda: layers.Rescaling([0.5, 2.0, -1.0], offset=[1.0, 0.0, 2.0]),
    lambda: keras.Sequential([layers.Dense(3, "relu"), layers.ELU()]),
]


@pytest.mark.parametrize("make", [*LAYERS.values(), *VARIANTS])
def test_every_layer_with_a_rule(make):
    for chain in ((layers.Dense(3), make(), layers.Dense(2, "tanh")), (make(), layers.Dense(2))):
        model = sequential(*chain, inputs=(3,))
        assert_same(from_keras(model), model, points(3))


@settings(max_examples=15)
@given(
    kinds=st.lists(st.sampled_from([k for k in LAYERS if k != "Normalization"]), max_size=5),
    functional=st.booleans(),
)
def test_a_chain_is_its_layers_one_after_the_other(kinds, functional):
    chain = [LAYERS[kind]() for kind in kinds] + [layers.Dense(2)]
    if functional:
        x = y = keras.Input((3,))
        for layer in chain:
            y = layer(y)
        model = shaken(keras.Model(x, y))
    else:
        model = sequential(*chain, inputs=(3,))
    assert_same(from_keras(model), model, points(3))


def test_models_in_models_and_layers_that_stand_twice():
    twice = layers.Dense(3, "tanh")
    x = keras.Input((3,))
    inner = keras.Model(x, twice(layers.Dropout(0.5)(x, training=False)))
    y = keras.Input((4,))
    model = shaken(keras.Model(y, twice(inner(sequential(layers.Dense(3))(y)))))
    net = from_keras(model)
    assert net.widths == (4, 3, 3, 3)
    assert_same(net, model, points(4))


def test_images_are_flattened_row_by_row_with_channels_last():
    normalization = layers.Normalization(mean=[1.0, -2.0], variance=[4.0, 0.25])
    model = sequential(
        layers.Rescaling(0.1),
        normalization,
        layers.BatchNormalization(),
        layers.BatchNormalization(axis=1),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
        inputs=(4, 3, 2),
    )
    net = from_keras(model)
    assert net.widths[0] == 24
    assert_same(net, model, points(4, 3, 2))


def test_a_normalization_may_be_adapted_to_data():
    X = points(3, count=50) * [1.0, 20.0, 0.01] + [0.0, 700.0, 1.0]
    normalization = layers.Normalization()
    normalization.adapt(X)
    model = sequential(normalization, layers.Dense(2), inputs=(3,))
    normalization.adapt(X)  # which the random weights have overwritten
    # numbers up to 35 times their spread, less their mean, are good to 35 roundings
    assert np.allclose(from_keras(model)(X), values(model, X), rtol=0, atol=1e-12)


def test_a_sequential_may_be_built_by_its_first_call():
    model = keras.Sequential([layers.Dense(2, "tanh")])
    model(points(3))
    assert_same(from_keras(model), model, points(3))


# --- dtypes ---------------------------------------------------------------------------------------


def test_float32_is_kept_and_constants_are_rounded_once():
    """1 / sqrt(variance + eps) is computed in float64: one rounding to float32 is left."""

    def build(dtype):
        compute_in(dtype)
        return sequential(layers.BatchNormalization(), layers.Dense(4, "tanh"), layers.Dense(2))

    narrow, wide = build("float32"), build("float64")
    wide.set_weights([weight.astype(np.float64) for weight in narrow.get_weights()])
    net = from_keras(narrow)
    assert net.dtype == np.float32
    X = points(4)
    expected = values(wide, X)
    # some five roundings of constants on the way, each of half an ulp
    difference = np.abs(net.astype(np.float64)(X) - expected).max()
    assert difference <= 5 * 2.0**-24 * np.abs(expected).max()
    x = points(4)[0].astype(np.float32)
    # sums of four products of order 1, in float32 and in whatever order
    assert np.allclose(net(x), values(narrow, x[None])[0], rtol=0, atol=3e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"])
def test_half_precision_is_widened_to_float32(policy):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=policy)])
    net = from_keras(model)
    assert net.dtype == np.float32
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[0].kernel, "float32"))
    assert np.array_equal(net.layers[0].W, kernel.T)


def test_the_model_is_neither_changed_nor_kept():
    model = sequential(layers.Dense(2), layers.Dropout(0.5))
    net = from_keras(model)
    before = net(np.ones(4))
    model.layers[0].kernel.assign(np.zeros((4, 2)))
    assert np.array_equal(net(np.ones(4)), before)


# --- graphs ---------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable()
class Louder(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3, "tanh")

    def call(self, x):
        return keras.ops.concatenate([self.inner(x), x[:, ::2]], axis=1)


def residual():
    x = keras.Input((4,))
    y = layers.Dense(4, layers.LeakyReLU(0.1))(layers.LayerNormalization()(x))
    y = layers.Multiply()([layers.Add()([x, y]), keras.ops.tanh(x)])
    y = layers.Concatenate()([y, layers.Maximum()([x, y]), layers.Subtract()([y, x])])
    y = layers.Reshape((3, 4))(y)
    y = layers.Average()([layers.Permute((2, 1))(y), layers.Permute((2, 1))(2 * y - 1)])
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))


def attention():
    x = keras.Input((5, 6))
    y = layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    y = layers.RMSNormalization()(layers.Add()([x, y]))
    return keras.Model(x, layers.GlobalAveragePooling1D()(layers.Dense(4, "gelu")(y)))


def convolutional():
    return sequential(
        layers.Conv2D(3, 3, padding="same", strides=2, activation="relu"),
        layers.MaxPooling2D(2, padding="same"),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
        layers.SeparableConv2D(4, 1, activation="tanh"),
        layers.Conv2DTranspose(2, 3, strides=2, padding="same"),
        layers.AveragePooling2D((2, 1)),
        layers.UpSampling2D(),
        layers.UpSampling2D((1, 2), interpolation="nearest"),
        layers.ZeroPadding2D(1),
        layers.GlobalMaxPooling2D(),
        inputs=(7, 6, 2),
    )


def recurrent():
    return sequential(
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(2, return_sequences=True, go_backwards=True),
        layers.SimpleRNN(3),
        inputs=(3, 2),
    )


def own():
    model = Own()
    model(points(4))
    return shaken(model)


GRAPHS = {
    "residual": (residual, {}, (4,)),
    "attention": (attention, {}, (5, 6)),
    "convolutional": (convolutional, {}, (7, 6, 2)),
    "recurrent": (recurrent, {}, (3, 2)),
    "a class of one's own": (own, {"inputs": 4}, (4,)),
    "a layer of one's own": (lambda: sequential(Louder(2)), {}, (4,)),
    "dense on rows": (lambda: sequential(layers.Dense(2), inputs=(3, 4)), {}, (3, 4)),
    "softmax before Flatten": (
        lambda: sequential(layers.Softmax(axis=1), layers.Flatten(), inputs=(3, 4)),
        {},
        (3, 4),
    ),
    "channels first": (
        lambda: sequential(layers.Flatten(data_format="channels_first"), inputs=(2, 3)),
        {},
        (2, 3),
    ),
    "a lambda": (lambda: sequential(layers.Dense(2, activation=lambda x: x * x)), {}, (4,)),
    "slopes of their own": (lambda: sequential(layers.PReLU()), {}, (4,)),
    "hard silu": (lambda: sequential(layers.Dense(2, "hard_silu")), {}, (4,)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_read_with_all_its_branches(name):
    make, options, shape = GRAPHS[name]
    model = shaken(make())
    net = from_keras(model, **options)
    # a derivative sums products over all branches, ten times as many as a value does
    derivative = ROUNDED["hard_sigmoid"] if name == "hard silu" else 1e-12
    assert_same(net, flattened(model), points(*shape), derivative)


def flattened(model):
    """Return the model with rows of vectors as outputs."""

    def call(x, **options):
        y = model(x, **options)
        return keras.ops.reshape(y, (len(y), -1))

    return call


def test_several_inputs_are_parts_and_several_outputs_are_named():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    first = layers.Dense(2, "tanh", name="first")(layers.Concatenate()([a, b]))
    second = layers.Dense(1, name="second")(first)
    model = shaken(keras.Model([a, b], [first, second]))
    net = from_keras(model, output="second")
    assert list(net.inputs) == ["a", "b"]
    X = points(5)
    expected = keras.ops.convert_to_numpy(model([X[:, :2], X[:, 2:]])[1])
    # both round the same sums of a few products, as above
    assert np.allclose(net(X), expected, rtol=0, atol=1e-13)
    assert from_keras(model, output=0).widths[-1] == 2
    with pytest.raises(ValueError, match="output: expected one of 'first', 'second', but got None"):
        from_keras(model)


def test_the_layers_forget_that_they_were_given_symbols():
    model = residual()
    before = [len(layer._inbound_nodes) for layer in model.layers]
    from_keras(model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before


# --- refusals -------------------------------------------------------------------------------------


def after(*chain, inputs=(3,)):
    return lambda: keras.Sequential([keras.Input(inputs), *chain])


class Sampled(layers.Layer):
    def call(self, x):
        return x + keras.random.normal((1, 3))


REFUSED = [
    (Own, ValueError, "Own is not built yet; .* say inputs=, the shape of one point"),
    (after(layers.Softmax(axis=0)), ValueError, "computes something else from three points at"),
    (
        after(layers.ReLU(max_value=1.0, negative_slope=0.5)),
        NotImplementedError,
        "negative_slope=0.5, max_value=1.0, threshold=0 together has no rule",
    ),
    (after(layers.ReLU(threshold=1.0)), NotImplementedError, "threshold=1 together has no rule"),
    (
        after(layers.Dense(2, "sparsemax", name="odd")),
        NotImplementedError,
        r"layer 'odd' \(Dense\): Dense has no rule here. Its call takes no symbols",
    ),
    (
        after(layers.Dense(2, "hard_shrink")),
        NotImplementedError,
        "the operation HardShrink has no rule here. jacobians.importers.IMPORTABLE lists",
    ),
    (
        after(layers.Embedding(4, 2), inputs=(3,)),
        NotImplementedError,
        r"whole numbers \(int32\) has no rule here. They have no derivative",
    ),
    (
        lambda: keras.Sequential([keras.Input((3,), dtype="int32"), layers.Dense(2)]),
        NotImplementedError,
        "an input of int32 has no rule here",
    ),
    (after(layers.Rescaling(2.0), inputs=(None,)), ValueError, "leaves a size of its input open"),
    (lambda: keras.Sequential([layers.Dense(2)]), ValueError, "is not built yet; call it on data"),
    (lambda: keras.Sequential(), ValueError, "is not built yet"),
    (lambda: layers.Dense(2), TypeError, "expected a keras model, but got <Dense"),
    (lambda: "model.keras", TypeError, "expected a keras model, but got 'model.keras'"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name_and_place(make, error, message):
    with pytest.raises(error, match=message):
        from_keras(make())


def test_the_table_names_layers_and_operations_of_keras():
    from keras.src import ops
    from keras.src.activations import activations

    homes = (layers, ops, ops.numpy, ops.nn, ops.math, ops.core, ops.linalg, ops.image, activations)
    unknown = [n for n in IMPORTABLE["from_keras"] if not any(hasattr(h, n) for h in homes)]
    assert not unknown
