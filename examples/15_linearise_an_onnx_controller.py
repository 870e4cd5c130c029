"""Which gains does a controller in an ONNX file have at a flight condition, in which units?

The file is built like the collision-avoidance networks of the ACAS family: five inputs in metres,
radians and metres per second, an offset and a scale inside the graph, ReLU layers, opset 8.  Here
it steers towards a rendezvous.  Linearised at a point, it is a row of state-space gains, and the
aircraft with it a matrix whose eigenvalues say whether it will get there.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from scipy.optimize import minimize

import jacobians as jb

NAMES = ["distance", "bearing", "heading", "own speed", "target speed"]
UNITS = ["m", "rad", "rad", "m/s", "m/s"]
CENTER = np.array([2000.0, 0.0, 0.0, 100.0, 80.0])
REACH = np.array([1000.0, 0.5, 0.5, 20.0, 20.0])

# The steering law to learn: turn three times as fast as the line of sight to the target does, and
# towards the target, so that it stays ahead.


def law(state):
    distance, bearing, heading, own, target = state.T
    sight = (target * np.sin(heading - bearing) + own * np.sin(bearing)) / distance
    return 3 * sight + 0.1 * bearing


rng = np.random.default_rng(0)
Z = rng.uniform(-1, 1, size=(1000, 5))
turn_rates = law(CENTER + REACH * Z)
Y = turn_rates[:, None] / turn_rates.std()
blank = jb.Network.random([5, 16, 16, 1], "relu", seed=0)


def objective(theta):
    g = jb.backprop.gradients(blank.with_parameters(theta), Z, Y, jb.SquaredError(), l2=1e-4)
    return g.loss, g.vector


options = {"maxiter": 200}
found = minimize(objective, blank.parameters, jac=True, method="L-BFGS-B", options=options)
trained = blank.with_parameters(found.x)

# Into a file, as an exporter would: Sub, Div, Flatten, then MatMul, Add and Relu in float32.

nodes, weights, value = [], [], "state"


def step(kind, constant=None):
    global value
    names = [value]
    if constant is not None:
        name = f"c{len(weights)}"
        weights.append(numpy_helper.from_array(np.asarray(constant, np.float32), name))
        names.append(name)
    value = f"v{len(nodes)}"
    nodes.append(helper.make_node(kind, names, [value]))


step("Sub", CENTER)
step("Div", REACH)
step("Flatten")
for layer in trained.layers:
    step("MatMul", layer.W.T)
    step("Add", layer.b)
    if layer is not trained.layers[-1]:
        step("Relu")
step("Mul", [turn_rates.std()])
given, made = (
    helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    for name, shape in (("state", (1, 1, 1, 5)), (value, (1, 1)))
)
model = helper.make_model(
    helper.make_graph(nodes, "controller", [given], [made], weights),
    opset_imports=[helper.make_opsetid("", 8)],
)

# From here on, nothing is known but the file.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "controller.onnx"
    onnx.save(model, path)
    net = jb.load(path).astype(np.float64)
print(net)

point = CENTER + REACH * [0.2, 0.15, 0.1, 0.3, -0.2]
turn_rate, gains = jb.value_and_jacobian(net, point)
print(f"turn rate at the flight condition: {np.degrees(turn_rate[0]):+.2f} °/s; its gains:")
for name, unit, gain in zip(NAMES, UNITS, gains[0], strict=True):
    print(f"  {gain:+.2e} rad/s per {unit:4} of {name}")

# A ReLU network is affine in the cell around the point, so a difference inside it is the gain
# itself, and the rounding of the two values is all that it may be off by.

for j in range(5):
    h = 1e-4 * REACH[j] * np.eye(5)[j]
    difference = (net(point + h) - net(point - h))[0] / (2 * h[j])
    assert abs(difference - gains[0, j]) < 1e-10 / h[j]

# Bearing b and heading h, as the aircraft sees them, change by b' = w - u and h' = -u, where w is
# the rate of the line of sight and u the turn rate.  Linearised: s' = A s + B u, u = K s.  Left
# alone the target drifts out of sight; steered, both must settle.

distance, b, h, own, target = point
A = (
    np.array([[own * np.cos(b) - target * np.cos(h - b), target * np.cos(h - b)], [0, 0]])
    / distance
)
B, K = np.array([[-1.0], [-1.0]]), gains[:, 1:3]
before, after = (np.sort(np.linalg.eigvals(M).real) for M in (A, A + B @ K))
print(f"eigenvalues without control {before.round(3)}, with it {after.round(3)} per second")
assert before.max() > 0 > after.max()
