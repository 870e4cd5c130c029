"""The map of the documents' claims is complete, and everything it names exists."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "paper_notes" / "map.md").read_text(encoding="utf-8")
ERRATA = (ROOT / "paper_notes" / "errata.md").read_text(encoding="utf-8")

CLAIMS = {"000": 58, "001": 46, "002": 24, "003": 29, "004": 41}
OMISSIONS = {"000": 5, "001": 5, "002": 4, "003": 3, "004": 3}
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
WRONG_OR_OPEN = 65 + 8 + 11  # wrong, undefined, incomplete


def expected_tags():
    tags = [
        f"{d}-{kind}{i}"
        for kind, counts in (("E", CLAIMS), ("M", OMISSIONS))
        for d, n in counts.items()
        for i in range(1, n + 1)
    ]
    return {*tags, *(f"U{i}" for i in range(1, 11)), *(f"HH-{i}" for i in range(1, 5))}


def rows_of(text):
    """Return {tag: (claim, functions, laws, checks)}."""
    rows = {}
    for tag, claim, functions, laws, checks in ROW.findall(text):
        if tag not in ("tag", "---"):
            assert tag not in rows, f"{tag} stands on the map twice"
            rows[tag] = (claim, names_in(functions), names_in(laws), checks.split(", "))
    return rows


def names_in(cell):
    return [] if cell == "none" else re.findall(r"`([^`]+)`", cell)


def missing_tags(text):
    return expected_tags() ^ set(rows_of(text))


def unknown_functions(text):
    """Name every function on the map that the library does not have."""
    return [
        (tag, name)
        for tag, (_, functions, _, _) in rows_of(text).items()
        for name in functions
        if not exists(name)
    ]


def exists(name):
    try:
        pkgutil.resolve_name(f"jacobians.{name}")
    except (ImportError, AttributeError):
        return False
    return True


def laws_of(path):
    """Return {name of a test: the tags it carries} of one file."""
    laws, wrong = {}, set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "WRONG":
            wrong = {key.value for key in node.value.keys}
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            runs_all = node.name.endswith("_give_other_numbers")
            laws[node.name] = wrong if runs_all else tags_in(ast.get_docstring(node) or "")
    return laws


def tags_in(text):
    """Read tags, also the short ones: ``000-E4 to E6, M1; U3`` are 000-E4, E5, E6, M1 and U3."""
    tags, document, last = set(), "", None
    for to, head, kind, number in re.findall(r"(to )?(?:(\d{3}|HH)-)?([EMU]?)(\d+)\b", text):
        document = head or document
        if kind == "U":
            tags.add(f"U{number}")
        elif document == "HH":
            tags.add(f"HH-{number}")
        elif kind and document:
            first = last + 1 if to else int(number)
            tags |= {f"{document}-{kind}{i}" for i in range(first, int(number) + 1)}
            last = int(number)
    return tags


LAWS = {path.stem: laws_of(path) for path in (ROOT / "tests").glob("test_*.py")}


def unknown_laws(text):
    """Name every law on the map that no test has, or whose test does not carry the tag."""
    wrong = []
    for tag, (_, _, laws, _) in rows_of(text).items():
        for law in laws:
            file, _, name = law.partition(".")
            if tag not in LAWS.get(file, {}).get(name, ()):
                wrong.append((tag, law))
    return wrong


def unshown_errata(text):
    """Name every tag that has a line but no code, or code but no line."""
    lines = set(re.findall(r"^- \*\*(\d{3}-E\d+)\*\*", text, re.MULTILINE))
    code = set(re.findall(r"^>>> .*#.*?(\d{3}-E\d+)", text, re.MULTILINE))
    for comment in re.findall(r"^>>> .*#(.*)$", text, re.MULTILINE):
        code |= set(re.findall(r"\d{3}-E\d+", comment))
    return lines ^ code


def test_all_198_claims_stand_on_the_map():
    assert sum(CLAIMS.values()) == 198
    assert not missing_tags(MAP)


def test_every_function_on_the_map_exists():
    assert not unknown_functions(MAP)


def test_every_law_on_the_map_exists_and_carries_the_tag():
    assert not unknown_laws(MAP)


def test_every_tag_of_a_law_stands_on_the_map():
    """And the other way round: what a test of the documents claims to cover, the map knows."""
    rows = rows_of(MAP)
    for file, laws in LAWS.items():
        if file.startswith("test_document_"):
            for name, tags in laws.items():
                for tag in tags:
                    assert f"{file}.{name}" in rows[tag][2], f"{tag} of {file}.{name}"


def test_every_claim_has_a_law_and_a_function():
    for tag, (claim, functions, laws, checks) in rows_of(MAP).items():
        if tag == "000-M4":  # a missing number of a question: nothing to compute
            assert checks == ["prose"]
            continue
        assert claim, tag
        assert functions, tag
        assert laws, tag
        assert set(checks) <= {"exact", "float", "counterexample"}, tag


def test_counts_on_the_map_are_right():
    checks = [row[3] for tag, row in rows_of(MAP).items() if "-E" in tag]
    counts = [
        sum(kind in kinds for kinds in checks)
        for kind in ("exact", "float", "counterexample", "prose")
    ]
    stated = re.search(
        r"Of the 198 claims (\d+) have an exact law, (\d+) a float law and (\d+) a counterexample; "
        r"(\d+) have\s+none",
        MAP,
    )
    assert [int(n) for n in stated.groups()] == counts


def test_every_slip_has_its_line_its_code_and_its_test():
    assert not unshown_errata(ERRATA)
    slips = re.findall(r"^- \*\*(\d{3}-E\d+)\*\*", ERRATA, re.MULTILINE)
    assert len(slips) == len(set(slips)) == WRONG_OR_OPEN
    rows = rows_of(MAP)
    for tag in slips:
        assert "counterexample" in rows[tag][3], tag
        name = f"test_wrong_claims_of_{tag[:3]}_give_other_numbers"
        (shown,) = (laws[name] for laws in LAWS.values() if name in laws)
        assert tag in shown


# --- the test is itself tested --------------------------------------------------------------------

SOME_ROW = next(line for line in MAP.splitlines() if line.startswith("| 003-E17 "))


def test_a_missing_claim_is_found():
    assert missing_tags(MAP.replace(SOME_ROW + "\n", "")) == {"003-E17"}
    assert missing_tags(MAP.replace("| HH-2 ", "| HH-5 ")) == {"HH-2", "HH-5"}


def test_a_claim_that_stands_twice_is_found():
    with pytest.raises(AssertionError, match="twice"):
        rows_of(f"{MAP}\n{SOME_ROW}\n")


def test_a_missing_function_is_found():
    broken = SOME_ROW.replace("explicit.weight_jacobian", "explicit.weights_jacobian")
    assert unknown_functions(broken) == [("003-E17", "explicit.weights_jacobian")]
    nowhere = SOME_ROW.replace("explicit.weight_jacobian", "implicit.weight_jacobian")
    assert unknown_functions(nowhere) == [("003-E17", "implicit.weight_jacobian")]


def test_a_missing_law_or_one_without_the_tag_is_found():
    law = "test_the_kronecker_road_leads_to_the_weight_derivative"
    assert unknown_laws(SOME_ROW.replace(law, "test_nothing"))
    other = "test_vec_has_an_inverse_once_shape_and_order_are_said"
    assert unknown_laws(SOME_ROW.replace(law, other)) == [("003-E17", f"test_document_003.{other}")]


def test_a_slip_without_code_is_found():
    assert unshown_errata(ERRATA.replace("# 004-E30", "#")) == {"004-E30"}
    assert unshown_errata(ERRATA.replace("- **004-E30**", "-")) == {"004-E30"}


def test_short_tags_are_read():
    assert tags_in("x^2 = 3.  000-E4 to E6, M1; 003-E2; U3; HH-1, 2.") == {
        "000-E4", "000-E5", "000-E6", "000-M1", "003-E2", "U3", "HH-1", "HH-2",
    }  # fmt: skip
