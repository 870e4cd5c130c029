"""Change the numerical modules one place at a time, and see whether a test notices.

``python tests/benchmarks/mutants.py`` tries one mutant in twenty-five and prints, by module, how
many were killed, how many are listed in ``paper_notes/mutants.md`` as equivalent, and every other
survivor; the exit status is 1 if there is one, or if fewer than 90 % were killed.  ``--seed`` and
``--percent`` choose others, and modules may be named; evidence and statistics only if they are.

A mutant is one change of the syntax tree: another operator, comparison or number, the sides of a
product or of ``where`` exchanged, a condition negated, a minimum for a maximum, a transpose, sign,
absolute value, keyword, decorator or call left out.  Left alone are text (docstrings, messages,
reprs), annotations, imports, the keywords that say which memory to use, and the sizes from which
the engine prefers one of two equal products.

Every mutant runs in a process forked from one that has loaded the libraries, through the tests that
speak about its module, with 20 examples of every law.  One that needs ten times the processor time
of the original has been noticed too.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
PACKAGE, NOTE = ROOT / "jacobians", ROOT / "paper_notes" / "mutants.md"

ENGINE = (
    "engine_kinds engine_ranges engine_paths engine_calls engine laws_of_jacobians entry_points"
)
GROUPS = {  # tests of some modules, quick ones first; the last line that names one
    "activations": "_sigma _gated",
    "laws_of_jacobians activations": "_softmax",
    "networks activations": "activations",
    "laws_of_maps entry_points underflow": "vectorization maps/*",
    "laws_of_maps entry_points underflow bad_input": "maps/product",
    "engine engine_kinds laws_of_maps entry_points underflow": "maps/association",
    "networks laws_of_jacobians entry_points": "layers network tracing",
    "laws_of_jacobians entry_points networks engine underflow": "linearization",
    "laws_of_jacobians entry_points laws_of_gradients exactness networks underflow": "explicit",
    "laws_of_gradients exactness entry_points laws_of_jacobians underflow bad_input": (
        "backprop losses"
    ),
    ENGINE: "factors planning engine/*",
    f"{ENGINE} bad_input": "engine/jacobians",
    f"sweeps {ENGINE}": "engine/sweeps engine/forward engine/point",
    f"{ENGINE} concurrency": "_workers engine/running",
    "rounding certificate": "rounding certificate",
    "witness underflow": "witness",
    "conventions underflow": "conventions",
    "units unit_recursion unit_networks underflow": "units/*",
    "sensitivities sensitivity_shards intervals": "sensitivities/groups sensitivities/st* "
    "sensitivities/accumulators sensitivities/measures sensitivities/subspace sensitivities/text "
    "sensitivities/dataset sensitivities/exports",
    "log_odds": "sensitivities/log_odds",
    "distributed": "distributed",
    "error_bars": "sensitivities/error_bars",
}
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")): tuple(
        f"tests/test_{t}.py" for t in tests.split()
    )
    for tests, modules in GROUPS.items()
    for module in modules.split()
    for path in sorted(PACKAGE.glob(f"{module}.py"))
    if path.stem != "__init__"
}
ASIDE = re.compile("certificate|witness|conventions|sensitivities")  # tried when they are named
# Constants of these modules are sizes and speeds: which of two equal products is the faster.
MEASURED = re.compile("planning|engine/(?!ranges|scaling)")


def both_ways(pairs):
    """Read pairs of names: each stands for the other."""
    there = dict(pair.split() for pair in pairs.split(", "))
    return there | {second: first for first, second in there.items()}


OPERATORS = "Add Sub, Mult Div, BitAnd BitOr, Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, And Or"
OTHER = {getattr(ast, a): getattr(ast, b) for a, b in both_ways(OPERATORS).items()}
OTHER |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult}
SWAPPED = both_ways("minimum maximum, min max, any all, level ceil, zeros ones, argmin argmax")
TEXT = {"__repr__", "__str__", "_size", "_kind", "explain", "spell", "_count", "picture"}
MEMORY = {None, "out", "spare", "copy", "strict"}  # keywords that never change a number
DECORATORS = {"underflow_is_rounding", "in_double"}


# --- the mutants of a module ----------------------------------------------------------------------


def changes(node):
    """Yield what may stand in the place of a node."""

    def changed(**fields):
        twin = copy.copy(node)
        vars(twin).update(fields)
        return twin

    match node:
        case ast.BinOp(op=ast.MatMult()):
            yield changed(left=node.right, right=node.left)
        case ast.BinOp(op=ast.BitOr(), right=ast.Constant(value=None)):
            pass  # a type
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OTHER:
            yield changed(op=OTHER[type(op)]())
        case ast.Compare(ops=ops):
            for k, op in enumerate(ops):
                if type(op) in OTHER:
                    yield changed(ops=[*ops[:k], OTHER[type(op)](), *ops[k + 1 :]])
        case ast.Constant(value=bool(value)):
            yield changed(value=not value)
        case ast.Constant(value=int(value)):
            yield changed(value=value + 1)
        case ast.Constant(value=float(value)):
            yield changed(value=value * 1.001 if value else 1.0)
        case ast.UnaryOp(op=ast.USub() | ast.Invert() | ast.Not()):
            yield node.operand
        case ast.If(test=t) | ast.IfExp(test=t) | ast.While(test=t) if not is_turned_round(t):
            yield changed(test=ast.UnaryOp(ast.Not(), t))
        case ast.comprehension(ifs=[test, *more]) if not is_turned_round(test):
            yield changed(ifs=[ast.UnaryOp(ast.Not(), test), *more])
        case ast.Attribute(attr="T"):
            yield node.value
        case ast.Call():
            yield from changes_of_call(node, changed)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.FunctionDef(decorator_list=some):
            for one in some:
                if isinstance(one, ast.Name) and one.id in DECORATORS:
                    yield changed(decorator_list=[other for other in some if other is not one])


def is_turned_round(test):
    """Tell whether a change inside a condition negates it already."""
    match test:
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Compare(ops=[op]):
            return not isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE))
    return False


def changes_of_call(node, changed):
    part = "attr" if isinstance(node.func, ast.Attribute) else "id"
    name = getattr(node.func, part, "")
    if name in SWAPPED:
        function = copy.copy(node.func)
        setattr(function, part, SWAPPED[name])
        yield changed(func=function)
    if name in ("abs", "reversed") and len(node.args) == 1:
        yield node.args[0]
    if name == "where" and len(node.args) == 3:
        yield changed(args=[node.args[0], node.args[2], node.args[1]])
    for k, keyword in enumerate(node.keywords):
        if keyword.arg not in MEMORY:
            yield changed(keywords=node.keywords[:k] + node.keywords[k + 1 :])


def places(node, module, statement=None, function=""):
    """Walk over the nodes that may be changed: where they hang, their statement and function."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for k, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or is_left_alone(child, module, function):
                continue
            inner = child if isinstance(child, ast.stmt) else statement
            path = function
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                path = f"{function}.{child.name}".lstrip(".")
            yield node, field, k if isinstance(value, list) else None, inner, path
            yield from places(child, module, inner, path)


def is_left_alone(node, module, function):
    """Tell whether a node is text, a type, or a size that was measured."""
    match node:
        case ast.Raise() | ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return True
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name in TEXT
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(value=value):
            types = isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar"
            return types or (not function and bool(MEASURED.match(module)))
        case ast.keyword(arg=name):
            return name is not None and name in MEMORY
    return False


class Mutant:
    """One changed place of a module."""

    def __init__(self, module, tree, place, replacement):
        self.module, self.replacement = module, replacement
        self._tree, (self._parent, self._field, self._k, statement, function) = tree, place
        self.line = getattr(statement, "lineno", 0)
        self.where = f"{module}: {function}" if function else module
        before = shown(statement)
        with self:
            after = shown(replacement if self.original is statement else statement)
        self.before, self.after = contrast(before, after)

    def __enter__(self):
        holder = getattr(self._parent, self._field)
        self.original = holder if self._k is None else holder[self._k]
        self._put(self.replacement)
        return self

    def __exit__(self, *_):
        self._put(self.original)

    def _put(self, node):
        if self._k is None:
            setattr(self._parent, self._field, node)
        else:
            getattr(self._parent, self._field)[self._k] = node

    def source(self):
        with self:
            return ast.unparse(self._tree)

    def __str__(self):
        return f"| `{self.where}` | `{self.before}` | `{self.after}` |"


def shown(statement):
    """Write a statement, or the head of one, on a line that fits into a table."""
    head = copy.copy(statement)
    if isinstance(getattr(head, "body", None), list):
        head.body, head.orelse = [ast.Pass()], []
    text = re.sub(r"\s+", " ", ast.unparse(ast.fix_missing_locations(head)))
    return text.removesuffix(" pass").replace("|", "¦").replace("`", "'")


def contrast(before, after, around=30):
    """Shorten two long lines to where they differ."""
    if max(len(before), len(after)) <= 100:
        return before, after
    start = max(agreement(before, after) - around, 0)
    before, after = before[start:], after[start:]
    cut = max(agreement(before[::-1], after[::-1]) - around, 0)
    return tuple("…" * (start > 0) + t[: len(t) - cut] + "…" * (cut > 0) for t in (before, after))


def agreement(left, right):
    """Count the letters with which two lines begin alike."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(left), len(right)))


def mutants(module):
    """Make every mutant of a module, in the order of its lines."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    found = []
    for place in places(tree, module):
        parent, field, k, _, _ = place
        node = getattr(parent, field) if k is None else getattr(parent, field)[k]
        found += [Mutant(module, tree, place, other) for other in changes(node)]
    return found


def sampled(mine, percent, seed):
    """Take a share of the mutants of a module."""
    count = -(-len(mine) * percent // 100)
    chosen = set(random.Random(f"{seed} {mine[0].module}").sample(range(len(mine)), count))
    return [mutant for k, mutant in enumerate(mine) if k in chosen]


# --- running them ---------------------------------------------------------------------------------

LIBRARIES = ["hypothesis.extra.numpy", "mpmath", "numpy.testing", "pytest", "scipy.sparse.linalg"]
NEVER_LOADED = 96  # exit status of tests that pass without the mutant


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports a mutant in the place of its module."""

    def __init__(self, mutant):
        self.code, self.loaded = mutant.source(), False
        name = "jacobians." + mutant.module.replace("/", ".")
        super().__init__(name, str(PACKAGE / f"{mutant.module}.py"))

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, name):
        self.loaded = True
        return compile(self.code, self.path, "exec")


class NearestFirst:
    """Lets the tests that share words with the changed function run before the others."""

    def __init__(self, mutant):
        self.words = set(re.findall("[a-z]{3,}", getattr(mutant, "where", "").lower()))

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: -sum(word in item.name.lower() for word in self.words))


def run_tests(mutant, tests, seconds, again=True):
    """Run tests on a mutant (or on the original) in a fork: exit status and processor time."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            signal.alarm(4 * int(seconds))  # it waits for something that never comes
        status = 99
        try:
            status = session(mutant, tests)
        finally:
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM and again:
        return run_tests(mutant, tests, seconds, again=False)  # the machine may have paused
    return status, usage.ru_utime + usage.ru_stime


def session(mutant, tests):
    """Run pytest until the first failure, with few examples and without making them smaller."""
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    changed = mutant and Changed(mutant)
    if changed:
        sys.meta_path.insert(0, changed)
    few = {"max_examples": 20, "derandomize": True, "deadline": None}
    plain = {"suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate]}
    settings.register_profile("mutants", **few, **plain)
    early = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis was imported before pytest
    options = ["-x", "-q", "--hypothesis-profile=mutants", "-W", early]
    status = pytest.main([*options, *tests], plugins=[NearestFirst(mutant)])
    return int(status) or (NEVER_LOADED if changed and not changed.loaded else 0)


def listed_as_equivalent():
    """Read the survivors that the note lists."""
    rows = NOTE.read_text(encoding="utf-8").splitlines() if NOTE.exists() else []
    cells = [row.strip("| ").split(" | ") for row in rows if row.startswith("| `")]
    return {f"| {' | '.join(row[:3])} |" for row in cells if len(row) == 4}


def judge(taken):
    """Try the mutants module by module: how many were killed, and what else survived."""
    for name in LIBRARIES:
        importlib.import_module(name)
    listed, killed, survivors, seconds = listed_as_equivalent(), 0, [], {}
    words = ("tried", "killed", "equivalent", "survived")
    print(f"{'module':26}" + "".join(f"{word:>12}" for word in words), flush=True)
    for module, mine in taken.items():
        tests = MODULES[module]
        if tests not in seconds:
            status, seconds[tests] = run_tests(None, tests, None)
            if status:
                raise SystemExit(f"{module}: the tests fail on the original")
        left = []
        for mutant in mine:
            doctests = f"jacobians/{module}.py"
            status, _ = run_tests(mutant, [doctests, *tests], 10 * seconds[tests] + 10)
            if os.waitstatus_to_exitcode(status) == NEVER_LOADED:
                raise SystemExit(f"{module}: the tests never load it")
            left += [mutant] * (status == 0)
        new = [mutant for mutant in left if str(mutant) not in listed]
        survivors += new
        killed += len(mine) - len(left)
        counts = len(mine), len(mine) - len(left), len(left) - len(new), len(new)
        print(f"{module:26}" + "".join(f"{count:12}" for count in counts), flush=True)
        for mutant in new:
            print(f"{mutant} line {mutant.line}", flush=True)
    return killed, survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", default=[r for r in MODULES if not ASIDE.match(r)])
    parser.add_argument("--percent", type=int, default=4, help="of every module")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.dont_write_bytecode = False  # every fork starts sooner
    start = time.monotonic()
    made = {module: mutants(module) for module in arguments.modules}
    taken = {module: sampled(made[module], arguments.percent, arguments.seed) for module in made}
    total, tried = (sum(map(len, some.values())) for some in (made, taken))
    print(f"{total:,} mutants of {len(made)} modules, {tried:,} of them tried", flush=True)
    killed, survivors = judge(taken)
    share, minutes = killed / tried, (time.monotonic() - start) / 60
    print(f"{killed:,} of {tried:,} killed, {share:.1%}, in {minutes:.0f} minutes")
    print(f"{tried - killed - len(survivors)} are listed as equivalent, {len(survivors)} are not")
    return int(bool(survivors) or share < 0.9)


if __name__ == "__main__":
    sys.exit(main())
