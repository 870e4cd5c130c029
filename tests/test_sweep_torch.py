"""Every class of torch.nn is imported, with torch's values and derivatives, or is refused."""

import numpy as np
import pytest

import jacobians as jb

torch = pytest.importorskip("torch")
nn = torch.nn

# How a class is made and what it takes: arguments, and the shape of a point; None for what takes
# one vector of four entries and no arguments.
IMAGE, SIGNAL, VOLUME, TOKENS = (2, 6, 5), (2, 7), (2, 3, 4, 3), (3, 4)
MADE = {
    "AdaptiveAvgPool1d": (((3,), {}), SIGNAL),
    "AdaptiveAvgPool2d": ((((3, 2),), {}), IMAGE),
    "AdaptiveAvgPool3d": ((((2, 2, 2),), {}), VOLUME),
    "AdaptiveLogSoftmaxWithLoss": (((4, 6, [2]), {}), {"input": 4, "target": ()}),
    "AdaptiveMaxPool1d": (((7,), {}), SIGNAL),
    "AdaptiveMaxPool2d": ((((3, 5),), {}), IMAGE),
    "AdaptiveMaxPool3d": ((((3, 2, 1),), {}), VOLUME),
    "AvgPool1d": (((2,), {}), SIGNAL),
    "AvgPool2d": (((2,), {"padding": 1}), IMAGE),
    "AvgPool3d": (((2,), {}), VOLUME),
    "BatchNorm1d": (((4,), {}), (4,)),
    "BatchNorm2d": (((2,), {}), IMAGE),
    "BatchNorm3d": (((2,), {}), VOLUME),
    "Bilinear": (((4, 3, 2), {}), {"input1": 4, "input2": 3}),
    "ChannelShuffle": (((2,), {}), (4, 3, 2)),
    "CircularPad1d": ((((1, 2),), {}), SIGNAL),
    "CircularPad2d": (((1,), {}), IMAGE),
    "CircularPad3d": (((1,), {}), VOLUME),
    "ConstantPad1d": (((1, 2.5), {}), SIGNAL),
    "ConstantPad2d": (((1, 2.5), {}), IMAGE),
    "ConstantPad3d": (((1, 2.5), {}), VOLUME),
    "Conv1d": (((2, 4, 3), {"dilation": 2}), SIGNAL),
    "Conv2d": (((2, 4, 3), {"padding": 1, "stride": 2, "groups": 2}), IMAGE),
    "Conv3d": (((2, 3, 2), {}), VOLUME),
    "ConvTranspose1d": (((2, 3, 3), {"stride": 2}), SIGNAL),
    "ConvTranspose2d": (((2, 3, 3), {"stride": 2, "output_padding": 1}), IMAGE),
    "ConvTranspose3d": (((2, 3, 2), {}), VOLUME),
    "CosineSimilarity": (((), {}), {"x1": 4, "x2": 4}),
    "CrossMapLRN2d": (((3,), {}), IMAGE),
    "DataParallel": (((nn.Linear(4, 3),), {}), (4,)),
    "Embedding": (((5, 3), {}), (4,)),
    "EmbeddingBag": (((5, 3), {}), (4,)),
    "Flatten": (((), {}), IMAGE),
    "Fold": ((((4, 4), 2), {"stride": 2}), (8, 4)),
    "FractionalMaxPool2d": (((2, 3), {}), IMAGE),
    "FractionalMaxPool3d": (((2, (2, 2, 2)), {}), VOLUME),
    "GLU": (((), {}), (6,)),
    "GRU": (((4, 3), {"batch_first": True}), TOKENS),
    "GRUCell": (((4, 3), {}), (4,)),
    "GroupNorm": (((2, 4), {}), (4, 3, 2)),
    "Hardtanh": (((-0.5, 2.0), {}), (4,)),
    "InstanceNorm1d": (((2,), {"affine": True}), SIGNAL),
    "InstanceNorm2d": (((2,), {}), IMAGE),
    "InstanceNorm3d": (((2,), {"track_running_stats": True}), VOLUME),
    "LPPool1d": (((2, 2), {}), SIGNAL),
    "LPPool2d": (((2, 2), {}), IMAGE),
    "LPPool3d": (((2, 2), {}), VOLUME),
    "LSTM": (((4, 3), {"batch_first": True}), TOKENS),
    "LSTMCell": (((4, 3), {}), (4,)),
    "LayerNorm": (((4,), {}), TOKENS),
    **{f"LazyConv{n}d": (((3, 2), {}), IMAGE) for n in (1, 2, 3)},
    **{f"LazyConvTranspose{n}d": (((3, 2), {}), IMAGE) for n in (1, 2, 3)},
    "LazyLinear": (((3,), {}), (4,)),
    "Linear": (((4, 3), {}), (4,)),
    "LinearCrossEntropyLoss": (((4, 3), {}), (4,)),
    "LocalResponseNorm": (((2,), {}), IMAGE),
    "MaxPool1d": (((2,), {}), SIGNAL),
    "MaxPool2d": (((2,), {"padding": 1}), IMAGE),
    "MaxPool3d": (((2,), {}), VOLUME),
    "MaxUnpool1d": (((2,), {}), {"input": SIGNAL, "indices": SIGNAL}),
    "MaxUnpool2d": (((2,), {}), {"input": IMAGE, "indices": IMAGE}),
    "MaxUnpool3d": (((2,), {}), {"input": VOLUME, "indices": VOLUME}),
    "MultiheadAttention": (
        ((4, 2), {"batch_first": True}),
        {"query": TOKENS, "key": (5, 4), "value": (5, 4)},
    ),
    "PReLU": (((3,), {}), TOKENS),
    "PairwiseDistance": (((), {}), {"x1": 4, "x2": 4}),
    "PixelShuffle": (((2,), {}), (4, 3, 2)),
    "PixelUnshuffle": (((2,), {}), (2, 4, 6)),
    "RMSNorm": (((4,), {}), TOKENS),
    "RNN": (((4, 3), {"batch_first": True}), TOKENS),
    "RNNBase": ((("GRU", 4, 3), {"batch_first": True}), TOKENS),
    "RNNCell": (((4, 3), {}), (4,)),
    "RNNCellBase": (((4, 3, True, 2), {}), (4,)),
    "ReflectionPad1d": (((2,), {}), SIGNAL),
    "ReflectionPad2d": (((1,), {}), IMAGE),
    "ReflectionPad3d": (((1,), {}), VOLUME),
    "ReplicationPad1d": (((2,), {}), SIGNAL),
    "ReplicationPad2d": (((1,), {}), IMAGE),
    "ReplicationPad3d": (((1,), {}), VOLUME),
    "Softmax": (((1,), {}), TOKENS),
    "Softmax2d": (((), {}), IMAGE),
    "Softmin": (((-1,), {}), TOKENS),
    "LogSoftmax": (((-1,), {}), TOKENS),
    "Softplus": (((2.0,), {}), (4,)),
    "SyncBatchNorm": (((2,), {}), IMAGE),
    "Threshold": (((0.5, 0.0), {}), (4,)),
    "Transformer": (((4, 2, 1, 1, 5), {"batch_first": True}), {"src": TOKENS, "tgt": (2, 4)}),
    "TransformerDecoder": (
        ((nn.TransformerDecoderLayer(4, 2, 5, batch_first=True), 2), {}),
        {"tgt": TOKENS, "memory": (2, 4)},
    ),
    "TransformerDecoderLayer": (
        ((4, 2, 5), {"batch_first": True}),
        {"tgt": TOKENS, "memory": (2, 4)},
    ),
    "TransformerEncoder": (
        ((nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), 2), {}),
        TOKENS,
    ),
    "TransformerEncoderLayer": (((4, 2, 5), {"batch_first": True}), TOKENS),
    "Unflatten": (((1, (2, 3)), {}), (6,)),
    "Unfold": (((2,), {}), IMAGE),
    "Upsample": (((), {"scale_factor": 2}), IMAGE),
    "UpsamplingBilinear2d": (((), {"scale_factor": 2}), IMAGE),
    "UpsamplingNearest2d": (((), {"scale_factor": 2}), IMAGE),
    "ZeroPad1d": ((((1, 2),), {}), SIGNAL),
    "ZeroPad2d": (((1,), {}), IMAGE),
    "ZeroPad3d": (((1,), {}), VOLUME),
}

TWO = {"input": 4, "target": 4}  # what most losses take
CLASSES = sorted(
    name
    for name, kind in vars(nn).items()
    if isinstance(kind, type) and issubclass(kind, nn.Module)
)
_IMPORTED = """
    AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d
    BatchNorm3d CELU ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d
    ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
    ConvTranspose3d CosineSimilarity DataParallel Dropout Dropout1d Dropout2d Dropout3d ELU
    FeatureAlphaDropout Flatten GELU GLU GRU GRUCell GroupNorm Hardsigmoid Hardswish Hardtanh
    Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d LPPool1d LPPool2d LPPool3d LSTM LSTMCell
    LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid LogSoftmax MaxPool1d MaxPool2d
    MaxPool3d Mish MultiheadAttention PReLU PairwiseDistance PixelShuffle PixelUnshuffle RMSNorm
    RNN RNNCell ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d
    ReplicationPad2d ReplicationPad3d SELU Sequential SiLU Sigmoid Softmax Softmax2d Softmin
    Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Transformer TransformerDecoder
    TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer Unflatten Unfold Upsample
    UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
"""
IMPORTED = set(_IMPORTED.split())


def first(outputs):
    """Return the first output of several, as rows."""
    while isinstance(outputs, tuple):
        outputs = outputs[0]
    return outputs.reshape(len(outputs), -1)


def made(name):
    """Return a module of a class, in float64 and evaluation mode, and what it takes."""
    torch.manual_seed(0)
    (args, options), shape = MADE.get(name, (((), {}), TWO if name.endswith("Loss") else (4,)))
    module = getattr(nn, name)(*args, **options).double().eval()
    for parameter in module.parameters():
        if not nn.parameter.is_lazy(parameter) and parameter.ndim == 1:
            nn.init.normal_(parameter)  # scales of 1 and shifts of 0 would hide mistakes
    return module, shape


def imported(name, module, shapes):
    """Return the network, or None and the refusal; any other error is an error of the test."""
    options = {"output": 0} if name in SEVERAL else {}
    try:
        return jb.from_torch(module, inputs=shapes, **options), None
    except (NotImplementedError, ValueError, TypeError) as err:
        return None, str(err)


SEVERAL = {"GRU", "LSTM", "RNN", "LSTMCell", "MultiheadAttention"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_torch_is_imported_and_right_or_refused(name):
    module, shapes = made(name)
    net, refusal = imported(name, module, shapes)
    assert (net is not None) == (name in IMPORTED), refusal
    if net is None:
        assert refusal.startswith("from_torch: ")
        assert len(refusal) < 700
        return
    named = shapes if isinstance(shapes, dict) else {"x": shapes}
    shapes = [(n,) if isinstance(n, int) else n for n in named.values()]
    sizes = [int(np.prod(shape)) for shape in shapes]

    def called(x):
        pieces = x.split(sizes, dim=1)
        return first(module(*(p.reshape(-1, *s) for p, s in zip(pieces, shapes, strict=True))))

    X = torch.tensor(np.random.default_rng(4).normal(size=(2, sum(sizes))))
    values, J = jb.value_and_jacobian(net, X.numpy())
    expected = called(X).detach().numpy()
    # sums of up to some hundred products one after the other, rounded in another order
    assert np.abs(values - expected).max() <= 1e-12 * max(1, np.abs(expected).max())
    for x, ours in zip(X, J, strict=True):
        theirs = torch.autograd.functional.jacobian(lambda x: called(x[None])[0], x).numpy()
        # hard sigmoid and hard swish have 1/6 in float32 in torch's derivative
        rounding = 2.0**-23 if name.startswith("Hards") else 1e-11
        assert np.abs(ours - theirs).max() <= rounding * max(1, np.abs(theirs).max())
