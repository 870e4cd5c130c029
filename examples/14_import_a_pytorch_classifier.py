"""What does a PyTorch classifier of wines go by, and does autograd agree?

A classifier as people write them, with batch normalisation and dropout, trained by torch.  In
evaluation it is a chain of matrices and diagonals; imported, its Jacobians over a data set are one
call on NumPy, without torch, and they are torch's own.
"""

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import nn

import jacobians as jb

# Thirteen measurements of 178 wines from three growers, each standardised by hand, as one does.

wine = load_wine()
X = (wine.data - wine.data.mean(axis=0)) / wine.data.std(axis=0)
points, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(wine.target)

torch.manual_seed(0)
module = nn.Sequential(
    nn.Linear(13, 16),
    nn.BatchNorm1d(16),
    nn.GELU(),
    nn.Dropout(0.2),
    nn.Sequential(nn.Linear(16, 8), nn.SiLU()),
    nn.Linear(8, 3),
    nn.Softmax(dim=1),
)
optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-3)
for _ in range(150):
    optimizer.zero_grad()
    nn.functional.nll_loss(torch.log(module(points)), labels).backward()
    optimizer.step()

# In training mode a point's output depends on chance and on the other points of its batch.  There
# is no Jacobian of that, so the importer says no, and says what to do.

try:
    jb.from_torch(module)
except ValueError as refusal:
    print(refusal)

net = jb.from_torch(module.eval())
print(net)
accuracy = (net(X).argmax(axis=1) == wine.target).mean()
print(f"accuracy: {accuracy:.1%}")
assert accuracy > 0.95

# The witness: torch's autograd, in float64.  Both round sums of at most sixteen terms of order 1.

module = module.double()
net = jb.from_torch(module)
J = jb.jacobian(net, X)
theirs = torch.func.vmap(torch.func.jacrev(lambda x: module(x[None])[0]))(torch.tensor(X))
difference = np.abs(J - theirs.detach().numpy()).max() / np.abs(J).max()
print(f"{len(X)} Jacobians of 3 x 13; largest difference from autograd's: {difference:.0e}")
assert difference < 1e-13

# What it goes by.  Near certainty softmax is flat, so the wines that decide are the doubtful ones.

names = {"input_names": wine.feature_names, "output_names": list(wine.target_names)}
report = jb.sensitivity(net, X, **names)
for i, name in enumerate(report.output_names):
    strongest = ", ".join(feature for feature, *_ in report.most_influential(i, 3))
    print(f"{name} goes by {strongest}")
