"""An explanation is shown as it is: by name, as text, as a page, a picture, on the command line."""

import csv
import sys

import numpy as np
import pytest
from claims import assert_equal, assert_within

import jacobians as jb
from jacobians import plotting
from jacobians.cli import main
from jacobians.data import bundle

PATIENTS = bundle("diabetes")

# --- names, text, pages, pictures -----------------------------------------------------------------


def test_columns_are_matched_by_name():
    pandas = pytest.importorskip("pandas")
    net = PATIENTS.network
    frame = pandas.DataFrame(PATIENTS.inputs[:5], columns=net.input_names)
    mixed = frame[frame.columns[::-1]]
    explanation = jb.explain(net, mixed.iloc[0], mixed.iloc[1:])
    same = jb.explain(net, PATIENTS.inputs[0], PATIENTS.inputs[1:5])
    assert_equal(explanation.contributions, same.contributions)
    assert explanation.input_names == net.input_names
    nameless = net.with_names()
    object.__setattr__(nameless, "input_names", None)
    named = jb.explain(nameless, frame.iloc[0], mixed.iloc[1:])  # the point's names, then by name
    assert_equal(named.contributions, same.contributions)
    with pytest.raises(ValueError, match="missing 'bmi'"):
        jb.explain(net, frame.iloc[0].drop("bmi"))
    table = explanation.to_frame()
    assert list(table.columns)[:5] == ["output", "input", "value", "baseline", "contribution"]
    assert_equal(table["contribution"], explanation.contributions[0])
    assert_equal(table["low"], explanation.interval()[0][0])


def test_the_text_names_the_largest_and_sums_the_others():
    net = jb.Network([jb.Dense([np.arange(1.0, 13)])])
    explanation = jb.explain(net, np.ones(12))
    assert repr(explanation) == "Explanation of 1 output by 12 inputs: integrated gradients, exact"
    lines = str(explanation).splitlines()
    assert lines[1] == "Baseline: zeros (none was given)"
    assert lines[3] == "y1: 0 at the baseline, 78 at the point"
    assert lines[6].split() == ["x12", "1", "0", "+12"]
    assert lines[16].split() == ["2", "others", "+3"]
    assert lines[17].split() == ["sum", "+78"]
    assert lines[18].startswith("Complete: the sum is H(x) - H(baseline) within 0.0e+00; rounding")
    assert str(explanation).isascii()
    assert explanation.table(count=12).splitlines()[-2].split() == ["x1", "1", "0", "+1"]
    assert_equal(explanation.baseline, np.zeros(12))
    assert jb.explain(net, np.ones(12), np.zeros(12)).baseline_is == "zeros"


def test_of_many_outputs_those_that_moved_most_are_shown():
    net = jb.Network([jb.Dense(np.array([[1.0, 5, -9, 2, 7, 0]]).T)])
    text = str(jb.explain(net, [1.0]))
    shown = [line.split(":")[0] for line in text.splitlines() if "at the baseline," in line]
    assert shown == ["y3", "y5", "y2", "y4"]
    assert text.endswith("... and 2 outputs more") or text.endswith("... and 2 outputs more\n")


def test_the_page_is_one_file_and_escapes_names(tmp_path):
    pytest.importorskip("jinja2")
    net = jb.Network([jb.Dense([[1.0, -2.0]])], input_names=["<b>", "x$y$"])
    explanation = jb.explain(net, [3.0, 1.0], [[0.0, 0.0], [1.0, 1.0]])
    explanation.save_html(tmp_path / "page.html", title="Why <this>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>Why &lt;this&gt;</h1>" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("data:image/svg+xml") == 1
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    fragment = explanation._repr_html_()
    assert "<table>" in fragment
    assert "95 % interval" in fragment
    assert "<img" not in fragment


def test_the_waterfall_goes_from_the_baseline_to_the_point():
    from matplotlib.colors import to_hex

    explanation = jb.explain(PATIENTS.network, PATIENTS.inputs[2], PATIENTS.inputs.mean(axis=0))
    ax = explanation.plot(count=3)
    steps = [patch.get_xy() for patch in ax.patches]
    assert steps[0][0, 0] == explanation.baseline_value[0]
    order = np.argsort(-np.abs(explanation.contributions[0]))
    ends = explanation.baseline_value[0] + np.cumsum(explanation.contributions[0, order[:3]])
    # corner and width of a bar are added up: roundings of the values, and the completeness below
    assert_within([step[2, 0] for step in steps[:3]], ends, 1e-12)
    assert_within(steps[3][2, 0], explanation.value[0], 1e-10)
    colors = [to_hex(patch.get_facecolor()) for patch in ax.patches[:3]]
    raised = explanation.contributions[0, order[:3]] > 0
    assert [color == "#d55e00" for color in colors] == raised.tolist()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == f"s5 = {PATIENTS.inputs[2, 8]:.4g}"
    assert names[3] == "7 others"
    words = [text.get_text() for text in ax.texts]
    assert f"baseline: {explanation.baseline_value[0]:.4g}" in words
    assert f"point: {explanation.value[0]:.4g}" in words
    assert (
        len(explanation.plot(count=9).patches) == 10
    )  # a line for one other is a line for its name


def test_without_pandas_the_extra_is_named(monkeypatch):
    explanation = jb.explain(jb.Network.random([2, 4, 3], "relu", seed=0), [1, 2])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas: .*jacobians\[pandas\]"):
        explanation.to_frame()


# --- the command line -----------------------------------------------------------------------------


def run(capsys, *arguments):
    status = main(["explain", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_explain_needs_no_arguments(capsys):
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert "Point 1 of 360 of digits" in out
    assert "Baseline: the point of means, of 360 points" in out
    assert "Complete: the sum is H(x) - H(baseline)" in out


def test_explain_says_what_the_library_says(capsys, tmp_path):
    np.savetxt(
        tmp_path / "base.csv",
        PATIENTS.inputs[5:8, ::-1],
        delimiter=",",
        header=",".join(PATIENTS.network.input_names[::-1]),
        comments="",
    )
    x = PATIENTS.inputs[2]
    for words, baseline in (
        ("zeros", None),
        ("mean", PATIENTS.inputs.mean(axis=0)),
        (tmp_path / "base.csv", PATIENTS.inputs[5:8]),
    ):
        given = ["diabetes", "--point", 3, "--baseline", words, "-o", tmp_path / "t.csv"]
        status, out, _ = run(capsys, *given)
        assert status == 0
        explanation = jb.explain(PATIENTS.network, x, baseline)
        assert explanation.table() in out
        with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["input"] for row in rows] == list(PATIENTS.network.input_names)
        assert_equal([float(row["contribution"]) for row in rows], explanation.contributions[0])
    assert "Baseline: averaged over 3 baselines, the points of base.csv" in out
    assert " on average over the baselines, " in out
    assert "the sum is H(x) - mean H(baseline)" in out


def test_explain_log_odds_and_a_page(capsys, tmp_path):
    pytest.importorskip("jinja2")
    path = tmp_path / "why.html"
    given = ["digits", "--log-odds", "--outputs", "digit 3", "-o", path, "--baseline", "zeros"]
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert "log-odds of digit 3: " in out
    assert f"{path}: " in out
    assert "Why this prediction: point 1 of digits" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "0"], "--point: expected at least 1, but got 0"),
        (["--point", "361"], "--point: expected at most 360, but got 361"),
        (["--outputs", "digit3"], "--outputs: 'digit3' is not one of digit 0"),
        (["--baseline", "median"], "--baseline: expected zeros, mean or a file, got 'median'"),
        (["--baseline", "no.csv"], "no.csv"),
        (["diabetes", "--log-odds"], "gives no probabilities"),
        (["-o", "t.json"], "-o: expected a name ending in .html or .csv, but got 't.json'"),
        (["diabetes", "{one}"], "--baseline: the mean of a single point is the point; say"),
    ],
)
def test_a_mistake_gives_one_line(capsys, tmp_path, arguments, message):
    np.save(tmp_path / "one.npy", PATIENTS.inputs[:1])
    status, _, err = run(capsys, *(a.format(one=tmp_path / "one.npy") for a in arguments))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_sizes_of_a_waterfall_stand_beside_the_names_not_over_them():
    """Steps to the left end there, and long names leave the axes little width."""
    steps = [-0.0123, -0.0456, -0.03, -0.011, 0.002, -0.0034]
    names = [f"mean temperature of station {k} = 12.34" for k in range(6)]
    ax = plotting.waterfall(steps, names, count=3)
    ax.get_figure().canvas.draw()
    sizes = [text.get_window_extent() for text in ax.texts if text.get_text().startswith("-0")]
    assert len(sizes) == 4
    assert min(box.x0 for box in sizes) > ax.get_window_extent().x0


def test_the_word_mean_for_a_baseline_leads_to_the_points():
    with pytest.raises(TypeError, match=r"pass X\.mean\(axis=0\), to average .* pass X\."):
        jb.explain(PATIENTS.network, PATIENTS.inputs[2], "mean")
