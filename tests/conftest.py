"""Hypothesis profiles, and what a skip means.

``pytest --hypothesis-profile=large`` runs 10,000 cases of every law.  Tests of frameworks that are
not installed skip with their names; with ``--no-skips``, as on a machine that has them all, a skip
is a failure.
"""

import os
import sys
from importlib.util import find_spec

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: BLAS gets one each
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # before NumPy is loaded

import guard
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

guard.install()

# helpers of tests that skip without onnx; pytest looks for examples in every module here
collect_ignore = [] if find_spec("onnx") else ["onnx_cases.py", "onnx_models.py"]

_common = {
    "deadline": None,  # shared machines pause; speed has its own benchmarks
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# The same cases on every machine: this profile says whether a change is right, and the larger ones
# roll new dice each time.
settings.register_profile("ci", max_examples=30, derandomize=True, **_common)
settings.register_profile("quick", max_examples=20, **_common)
settings.register_profile("large", max_examples=10_000, **_common)
settings.register_profile("long", max_examples=200_000, **_common)
settings.load_profile("ci")


class FiguresClosed:
    """No test or example leaves a figure open: a plugin, for the examples stand beside the code."""

    @pytest.hookimpl
    def pytest_runtest_teardown(self):
        if plt := sys.modules.get("matplotlib.pyplot"):
            plt.close("all")


def pytest_configure(config):
    config.pluginmanager.register(FiguresClosed())


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _without_skips((yield), collector.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _without_skips((yield), item.config)


def _without_skips(report, config):
    if report.skipped and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, with --no-skips: {report.longrepr[2]}"
    return report
