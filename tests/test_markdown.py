"""Every Python block of the README and the notes runs, as one doctest session per file."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "paper_notes").glob("*.md"))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def python_blocks(text):
    """Return the ``python`` blocks with their line numbers."""
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 1, block.group(1)) for block in found]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_python_block_runs(path):
    blocks = python_blocks(path.read_text(encoding="utf-8"))
    names = {"np": np}
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for line, block in blocks:
        assert ">>>" in block, f"{path.name}:{line}: a block without a prompt is never run"
        test = doctest.DocTestParser().get_doctest(block, names, path.name, str(path), line)
        report = []
        failed, _ = runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
        assert not failed, f"{path.name}:{line}\n{''.join(report)}"


def test_a_wrong_block_fails():
    [(line, block)] = python_blocks("text\n\n```python\n>>> 1 + 1\n3\n```\n")
    test = doctest.DocTestParser().get_doctest(block, {}, "wrong", None, line)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
