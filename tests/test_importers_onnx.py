"""ONNX operators come in with the values of the standard's own evaluator, and with their slopes."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import defs
from onnx_cases import CASES, H, as_evaluated
from onnx_models import LAST, X, assert_same, chain, op

import jacobians as jb
from jacobians.importers import IMPORTABLE, from_onnx
from jacobians.importers.onnx_ml import RULES as ML_RULES
from jacobians.importers.onnx_operators import ON_CONSTANTS, RULES

OPSETS = [9, 12, LAST]
EVERY = sorted({(s.domain, s.name) for s in defs.get_all_schemas_with_history()})
READ = {*RULES, *ON_CONSTANTS}
SINCE = {
    s.name: min(t.since_version for t in defs.get_all_schemas_with_history() if t.name == s.name)
    for s in defs.get_all_schemas_with_history()
}
UNTIL = {"Upsample": 9}
SINCE["Upsample"] = 9  # before, the scales were an attribute, which the evaluator does not know


def test_every_operator_is_tried():
    assert set(CASES) | set(ML_RULES) == set(IMPORTABLE["from_onnx"])


def built(steps, opset):
    """Make the model of a chain; its input is as wide as its first step says."""
    kind, operands, _ = steps[0]
    wide = kind == "Reshape" and abs(int(np.prod(operands[1])))
    return chain(*steps, opset=opset, shape=("batch", wide or 4))


@pytest.mark.parametrize(
    ("kind", "opset"),
    [(k, o) for k in CASES for o in OPSETS if SINCE[k] <= o <= UNTIL.get(k, LAST)],
)
def test_every_operator_has_the_values_and_slopes_of_the_standard(kind, opset):
    for steps in CASES[kind](opset):
        if any(SINCE.get(other, 1) > opset for other, _, _ in steps):
            continue
        model = built(steps, opset)
        net = from_onnx(model)
        assert net.dtype == np.float64
        assert_same(net, built(*as_evaluated(kind, steps, opset)), scale=1.3, points=1)


@pytest.mark.parametrize(("domain", "kind"), [key for key in EVERY if key not in READ])
def test_every_other_operator_is_refused_with_its_place_and_the_way_out(domain, kind):
    model = chain(H, op(kind, X, domain=domain), op("Relu", X))
    message = (
        rf"^from_onnx: node 2 'step1' \({kind}\): this operator.* has no rule here; .*IMPORTABLE.*"
    )
    with pytest.raises(jb.ModelFormatError, match=message + "Name an output before it"):
        from_onnx(model)


@pytest.mark.parametrize("kind", sorted(op for _, op in ON_CONSTANTS - {("", "Constant")}))
def test_what_is_read_on_constants_alone_is_refused_elsewhere(kind):
    with pytest.raises(
        jb.ModelFormatError, match=rf"\({kind}\) has a rule for constants alone, but"
    ):
        from_onnx(chain(H, op(kind, X), op("Relu", X)))
