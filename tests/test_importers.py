"""What all importers promise: lazy frameworks, extras by name, a table that cannot lie."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jacobians as jb
from jacobians.importers import importable_table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("package", "call", "message"),
    [
        ("sklearn", jb.from_sklearn, r'from_sklearn needs scikit-learn: .*"jacobians\[sklearn\]"'),
        ("torch", jb.from_torch, r'from_torch needs torch: pip install "jacobians\[torch\]"'),
        ("keras", jb.from_keras, r'from_keras needs keras: pip install "jacobians\[keras\]"'),
        ("h5py", lambda _: jb.load("a.h5"), r'load needs keras and h5py: .*"jacobians\[keras\]"'),
    ],
)
def test_an_absent_framework_is_named_with_its_extra(package, call, message, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=message):
        call("model")


def test_the_extras_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {"sklearn", "torch", "keras", "onnx", "safetensors", "importers"} <= set(extras)
    for path in (ROOT / "jacobians").rglob("*.py"):
        for extra in re.findall(r'missing_extra\(\s*"[^"]+",\s*"(\w+)"', path.read_text()):
            assert extra in extras, f"{path.name} names the extra {extra}"


def test_the_table_of_the_readme_is_the_rules():
    """Printed by ``python -c "from jacobians.importers import *; print(importable_table())"``."""
    assert importable_table() in (ROOT / "README.md").read_text(encoding="utf-8")


ABSENT = """
import pytest
pytest.importorskip("some_framework")
"""
HERE = """
import pytest

def test_skipped():
    pytest.skip("some reason")

def test_passes():
    pass
"""


@pytest.mark.parametrize(
    ("options", "status", "outcome"),
    [([], 0, "1 passed, 2 skipped"), (["--no-skips"], 1, "1 failed, 1 passed, 1 error")],
)
def test_skips_name_the_framework_and_can_be_failures(options, status, outcome, tmp_path):
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "test_absent.py").write_text(ABSENT)
    (tmp_path / "test_here.py").write_text(HERE)
    run = subprocess.run(
        [*[sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider"], *options]
        + ["--continue-on-collection-errors"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status, run.stdout + run.stderr
    assert outcome in run.stdout
    assert "could not import 'some_framework'" in run.stdout
    assert "some reason" in run.stdout
