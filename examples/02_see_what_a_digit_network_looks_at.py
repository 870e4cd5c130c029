"""Which pixels does a network look at when it reads a digit?

The bundled network classifies 8x8 images.  Its Jacobian at an image says how every class
probability answers to every pixel.  Over 360 held-out images this gives a map per class; at one
image it says which pixel to change to make the network change its mind.
"""

import numpy as np

import jacobians as jb
from jacobians.data import bundle

digits = bundle("digits")
net, X, labels = digits.network, digits.inputs, digits.targets
accuracy = (net(X).argmax(axis=1) == labels).mean()
print(f"{net}\naccuracy on {len(X)} held-out images: {accuracy:.1%}")
assert accuracy > 0.95

# All Jacobians at once: one (10, 64) matrix per image.

J = jb.jacobian(net, X)
print(f"Jacobians: {J.shape}")

# Probabilities add up to 1, so the rows of each Jacobian add up to 0: what one class wins from a
# pixel, the others lose.  That is a property of softmax, and a check of the computation.  Each sum
# has ten terms no larger than the largest entry.

assert np.abs(J.sum(axis=1)).max() < 10 * np.finfo(float).eps * np.abs(J).max()

# Over the data set: the pixels that matter most to each class.

report = jb.sensitivity(net, X)
print(f"\n{report}\n")

# At one image the network is least sure of: move along the gradient of the runner-up's lead.

margins = np.sort(net(X), axis=1)
i = int(np.argmin(margins[:, -1] - margins[:, -2]))
x = X[i]
winner, second = np.argsort(net(x))[::-1][:2]
print(f"image {i}: {net(x)[winner]:.0%} for {winner}, {net(x)[second]:.0%} for {second}")

lead = J[i, second] - J[i, winner]  # how the runner-up's lead answers to each pixel
step = 0.5 * lead / np.abs(lead).max()  # at most half a grey level of sixteen, in any pixel
p = net(x + step)
print(f"after changing no pixel by more than half a grey level: {p[second]:.0%} for {second}")
assert p.argmax() == second

# The linear prediction is what made this easy, and it is honest: the change of the lead is what the
# Jacobian says, up to terms of second order.

predicted = lead @ step
actual = (p[second] - p[winner]) - (net(x)[second] - net(x)[winner])
print(f"change of the lead: {actual:.3f}, predicted by the Jacobian: {predicted:.3f}")
assert abs(actual - predicted) < 0.25 * abs(actual)
