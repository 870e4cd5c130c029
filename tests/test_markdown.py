"""Every Python block of the README and the notes runs, as one doctest session per file.

Blocks that import a package that is not installed are left out, and the skip names it.
"""

import doctest
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "paper_notes").glob("*.md"))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def python_blocks(text):
    """Return the ``python`` blocks with their line numbers."""
    blocks = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 1, block.group(1)) for block in blocks]


def missing_packages(block):
    """Return the packages that a block imports and that are not there."""
    named = re.findall(r"^>>> (?:import|from) (\w+)", block, re.MULTILINE)
    return [name for name in named if find_spec(name) is None]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_python_block_runs(path):
    blocks = python_blocks(path.read_text(encoding="utf-8"))
    names, missing = {"np": np}, []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for line, block in blocks:
        assert ">>>" in block, f"{path.name}:{line}: a block without a prompt is never run"
        if missing_packages(block):
            missing += missing_packages(block)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, path.name, str(path), line)
        report = []
        failed, _ = runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
        assert not failed, f"{path.name}:{line}\n{''.join(report)}"
    if missing:
        pytest.skip(f"all blocks ran but those that import {', '.join(missing)}")


def test_a_block_whose_package_is_missing_is_named():
    assert missing_packages(">>> import numpy as np, re\n>>> from nowhere.at import all") == [
        "nowhere"
    ]


def test_a_wrong_block_fails():
    [(line, block)] = python_blocks("text\n\n```python\n>>> 1 + 1\n3\n```\n")
    test = doctest.DocTestParser().get_doctest(block, {}, "wrong", None, line)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
