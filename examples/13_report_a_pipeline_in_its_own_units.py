"""What does one more point of body-mass index mean to a scikit-learn pipeline?

A pipeline scales its inputs and its target, so the weights of the perceptron inside say nothing in
kg/m² or mmHg.  Imported, the scalers are layers like any other: the Jacobian is that of
``predict``, per unit of what went in, in units of what comes out.  The report is printed, and
written as a page for those who only read: give a path on the command line to keep it.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import jacobians as jb

# Ten measurements of 442 patients, as they were taken, and the progression of their diabetes after
# a year.  The data frame brings the names along.

data = load_diabetes(scaled=False)
X, y = pd.DataFrame(data.data, columns=data.feature_names), data.target

perceptron = MLPRegressor(
    hidden_layer_sizes=[8], activation="tanh", solver="lbfgs", alpha=10.0, random_state=0
)
model = TransformedTargetRegressor(
    make_pipeline(StandardScaler(), perceptron), transformer=StandardScaler()
)
model.fit(X, y)
print(f"R² of the pipeline on its own data: {model.score(X, y):.2f}")

# One line, and nothing is lost: the same predictions, up to the rounding of sums of ten terms that
# are at most a few hundred times as large as their spread.

net = jb.from_sklearn(model)
print(net)
assert abs(net(X.to_numpy())[:, 0] - model.predict(X)).max() < 1e-10

# Another line: how the prediction answers to every measurement, over all patients.

units = {"bmi": "kg/m²", "bp": "mmHg", "age": "years"}
report = jb.sensitivity(net, X.to_numpy(), output_names=["progression"], units=units)
print(f"\n{report}\n")

# So what does one more point of body-mass index mean?  The mean derivative, with its interval.

bmi = report.input_names.index("bmi")
low, high = report.interval("mean")
print(
    f"one more kg/m²: {report.mean[0, bmi]:.2f} more progression on average, "
    f"between {low[0, bmi]:.2f} and {high[0, bmi]:.2f} with 95 % confidence"
)

# Asked directly, scikit-learn says the same: predictions at a hundredth more and a hundredth less.
# Their difference is off by terms of second order in that step, far below a thousandth.

more, less = X.assign(bmi=X["bmi"] + 0.01), X.assign(bmi=X["bmi"] - 0.01)
asked = (model.predict(more) - model.predict(less)).mean() / 0.02
print(f"differences of predict: {asked:.2f}")
assert abs(asked - report.mean[0, bmi]) < 1e-3 * abs(asked)
assert low[0, bmi] < asked < high[0, bmi]

# The page, in one file without scripts: tables, intervals, pictures, and the identities checked at
# the first patient.

with tempfile.TemporaryDirectory() as folder:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report.html"
    certificate = jb.certify(net, X.to_numpy()[0])
    page = report.to_html(path, title="Progression of diabetes", certificates=[certificate])
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")
    assert path.read_text(encoding="utf-8") == page
    assert "kg/m²" in page
    assert certificate.holds
