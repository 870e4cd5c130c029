"""Change the numerical modules one place at a time, and see whether a test notices.

``python tests/benchmarks/mutants.py`` tries 200 mutants and prints every survivor that
``paper_notes/mutants.md`` does not list as equivalent; the exit status is 1 if fewer than 97 % of
the others were killed.  ``--seed``, ``--mutants`` and ``--minutes`` choose others, and modules
may be named; evidence, conventions and statistics only if they are.  ``--only`` tries those whose
printed line contains one of some texts: survivors again, after a new law.  ``--seconds 10`` asks
fewer tests, for a first look at many: what survives them is asked again with ``--only``.

A mutant is one change of the syntax tree: another operator, comparison or number, the sides of a
product or of ``where`` exchanged, a condition negated, a minimum for a maximum, a transpose, sign,
absolute value, keyword, decorator or call left out.  Left alone are text (docstrings, messages,
reprs), annotations, imports, the 1 of ``reshape(-1)`` (NumPy takes any negative number), the
keywords that say which memory to use, and sizes that decide memory and speed and never a number:
the defaults of ``Limits``, arithmetic with them or with the bytes of a piece of the points, and
conditions that prefer one of two equal products.  Figures that a plan shows are not left alone.

Every test of the numerical part runs once on the original, to see which functions it calls and
how long it takes; that is kept beside the temporary files until a source changes.  Then every
mutant runs in a process forked from one that has loaded the libraries, through the tests that call
the changed function, the nearest ones first and then the quick ones, for a minute of the original
at most, until the first failure, with 20 examples of every law.  One that needs ten times the
processor time of the original has been noticed too.  As many run at once as there are processors.
"""

import argparse
import ast
import copy
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
PACKAGE, NOTE = ROOT / "jacobians", ROOT / "paper_notes" / "mutants.md"

NUMERICAL = (
    "_sigma _gated _softmax activations vectorization maps/* layers/* network tracing "
    "linearization/* explicit backprop losses factors grouping planning program compiling "
    "emitting _workers engine/* rounding bounds certificate files _npz witness second_order/* "
    "conventions/* units/* sensitivities/groups sensitivities/st* sensitivities/accumulators "
    "sensitivities/measures sensitivities/subspace sensitivities/dataset sensitivities/log_odds "
    "sensitivities/error_bars distributed"
)
MODULES = [
    str(path.relative_to(PACKAGE).with_suffix(""))
    for pattern in NUMERICAL.split()
    for path in sorted(PACKAGE.glob(f"{pattern}.py"))
    if path.stem != "__init__"
]
# Tests of importers, pictures, names and of the tests themselves: slow, and never the nearest.
APART = re.compile(
    "import|onnx|sweep_|slips|examples|notebook|plotting|reports|markdown|fuzzers|claims_map|"
    "structure|names|mutants|strategies|outside|shown|scale|deriv|diagnosis"
)
ASIDE = re.compile("witness|conventions|sensitivities")  # tried when they are named
# Constants of these modules are sizes and speeds: which of two equal products is the faster.
MEASURED = re.compile("planning|engine/(?!scaling)")
PIECES = re.compile("(PIECE|BLOCK|SUMS|WARM|KEPT|DEFAULT)_BYTES|limits")  # sizes of pieces
# sizes and counts up to which one of two equal ways is the faster, or that go together
SIZES = ["TABLE", "SHARED", "TOGETHER", "PIECE", "SMALL", "SHORT", "FEW_PRODUCTS", "_KEPT"]
SIZES += ["PIECE_BYTES", "PRODUCTS_AT_ONCE"]


def both_ways(pairs):
    """Read pairs of names: each stands for the other."""
    there = dict(pair.split() for pair in pairs.split(", "))
    return there | {second: first for first, second in there.items()}


OPERATORS = "Add Sub, Mult Div, BitAnd BitOr, Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, And Or"
OTHER = {getattr(ast, a): getattr(ast, b) for a, b in both_ways(OPERATORS).items()}
OTHER |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult}
SWAPPED = both_ways("minimum maximum, min max, any all, level ceil, zeros ones, argmin argmax")
TEXT = {"__repr__", "__str__", "_size", "_kind", "explain", "spell", "_count", "picture"}
MEMORY = {None, "out", "spare", "copy", "strict", "into_memory"}  # they change no number
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
        case ast.If(test=t) | ast.IfExp(test=t) if asks_a_limit(t):
            pass
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


def asks_a_limit(test):
    """Tell whether a condition compares with a size from which one of two equal ways is faster.

    Or asks how columns lie in memory, for which there are two equal ways too.
    """
    return not named_in(test).isdisjoint(["limits", "are_rows", "strides", *SIZES])


def named_in(node):
    """Return the names of variables and attributes in an expression."""
    inner = ast.walk(node)
    return {name for n in inner if (name := getattr(n, "id", "") or getattr(n, "attr", ""))}


def is_a_size(node):
    """Tell whether an expression is how many points or rows are treated at a time."""
    match node:
        case ast.BinOp(op=ast.FloorDiv()):
            return any(map(PIECES.fullmatch, named_in(node)))
        case ast.Call(func=ast.Name(id="max" | "min"), args=some):
            return any(is_a_size(one) or getattr(one, "id", "") == "piece" for one in some)
    return False


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
                path = f"{function}.{named(child)}".lstrip(".")
            yield node, field, k if isinstance(value, list) else None, inner, path
            yield from places(child, module, inner, path)


def named(node):
    """Return the name of a function or class; of a rule called ``_``, what it is registered for."""
    kinds = [ast.unparse(d.args[0]) for d in node.decorator_list if getattr(d, "args", ())]
    return kinds[0] if node.name == "_" and kinds else node.name


def is_left_alone(node, module, function):
    """Tell whether a node is text, a type, or a size that was measured."""
    match node:
        case ast.Raise() | ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return True
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name in TEXT
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) if name in SIZES:
            return True
        case ast.Assign(value=value):
            types = isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar"
            return types or (not function and bool(MEASURED.match(module)))
        case ast.Compare():
            return asks_a_limit(node)
        case ast.BoolOp(values=some):
            return any(isinstance(one, ast.Call) and asks_a_limit(one) for one in some)
        case ast.AnnAssign() if function == "Limits":
            return True
        case ast.Call() | ast.BinOp():
            return is_a_size(node)
        case ast.keyword(arg=name):
            return name is not None and name in MEMORY
    return getattr(node, "says_rest", False)


def mark_rests(tree):
    """Mark every 1 in the ``reshape(-1)`` of a module."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "reshape":
            for node in ast.walk(call):
                if isinstance(node, ast.UnaryOp) and ast.unparse(node) == "-1":
                    node.operand.says_rest = True


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
    mark_rests(tree)
    made = []
    for place in places(tree, module):
        parent, field, k, _, _ = place
        node = getattr(parent, field) if k is None else getattr(parent, field)[k]
        made += [Mutant(module, tree, place, other) for other in changes(node)]
    return made


def sampled(made, count, seed):
    """Take some of the mutants, in their order."""
    chosen = random.Random(seed).sample(range(len(made)), min(count, len(made)))
    return [made[k] for k in sorted(chosen)]


# --- running them ---------------------------------------------------------------------------------

LIBRARIES = ["hypothesis.extra.numpy", "mpmath", "numpy.testing", "pytest", "scipy.sparse.linalg"]
NEAREST = 10  # tests that run first
CALLED = set()  # functions of the package, since the last test began
SECONDS = 60  # of tests for one mutant, as the original takes them


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports a mutant in the place of its module."""

    def __init__(self, mutant):
        self.code = mutant.source()
        name = "jacobians." + mutant.module.replace("/", ".")
        super().__init__(name, str(PACKAGE / f"{mutant.module}.py"))

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, name):
        return compile(self.code, self.path, "exec")


class Noting(importlib.abc.MetaPathFinder):
    """Imports the package with a note at the head of every function."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != "jacobians":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.origin.endswith(".py"):
            spec.loader = Noted(name, spec.origin)
        return spec


class Noted(importlib.machinery.SourceFileLoader):
    """Compiles a module with these notes."""

    def exec_module(self, module):
        module.__called__ = CALLED
        super().exec_module(module)

    def get_code(self, name):
        path = Path(self.path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        note_calls(tree, str(path.relative_to(PACKAGE).with_suffix("")))
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


def note_calls(node, module, function=""):
    """Let every function of a module say that it is called."""
    for child in ast.iter_child_nodes(node):
        path = function
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            path = f"{function}.{named(child)}".lstrip(".")
        note_calls(child, module, path)
    if isinstance(node, ast.FunctionDef):
        note = ast.parse(f"__called__.add({f'{module}: {function}'!r})").body
        first = int(ast.get_docstring(node) is not None)
        node.body[first:first] = note


class Calls:
    """Notes for every test its seconds and the functions of the package that it calls."""

    def __init__(self, notes):
        self.notes, self.failed = notes, set()

    def pytest_runtest_logstart(self):
        CALLED.clear()
        self.start = time.process_time()

    def pytest_runtest_logfinish(self, nodeid):
        if nodeid not in self.failed:
            self.notes[nodeid] = time.process_time() - self.start, sorted(CALLED)

    def pytest_runtest_logreport(self, report):
        if not report.passed:  # or skipped
            self.failed.add(report.nodeid)


class Only:
    """Lets only the chosen tests run, in the order in which they were chosen."""

    def __init__(self, nodeids):
        self.order = {nodeid: k for k, nodeid in enumerate(nodeids)}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid in self.order]
        items.sort(key=lambda item: self.order[item.nodeid])


def chosen_tests(mutant, notes, most):
    """Name the tests that call the changed function: by the words they share, quick ones first.

    A change outside of every function, or in one that no test calls by itself, asks those that
    call anything of its class, or of its module.
    """
    for where in (f"{mutant.where}", f"{mutant.where}.", f"{mutant.module}: ", ""):
        inside = where == mutant.where
        covering = [
            test
            for test, (_, called) in notes.items()
            if any(name == where if inside else name.startswith(where) for name in called)
        ]
        if covering:
            break
    words = set(re.findall("[a-z]{3,}", mutant.where.lower()))

    def order(test):
        return -sum(word in test.lower() for word in words), notes[test][0]

    chosen, seconds = [], 0.0
    for test in sorted(covering, key=order):
        if seconds + notes[test][0] <= most:
            chosen, seconds = [*chosen, test], seconds + notes[test][0]
    return chosen


def in_a_fork(work, seconds=None):
    """Run ``work`` in a fork: its exit status, and what it wrote into its file."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        child = os.fork()
        if child == 0:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
            if seconds:
                resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            status = 99
            try:
                status = work(file)
                file.flush()
            finally:
                os._exit(status)
        status = waited_for(child, seconds)
        file.seek(0)
        return status, file.read()


def waited_for(child, seconds):
    """Wait for a fork, and end one that waits for something that never comes.

    Turns are counted and not minutes: a machine may be stopped, or busy with something else.
    """
    turns = 0
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        turns += 1
        if seconds and turns == 400 * int(seconds):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    return ended[1]


def session(arguments, plugin, changed=None):
    """Run pytest with few examples and without making them smaller."""
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    first = ["-x"] if changed else []
    sys.meta_path.insert(0, changed or Noting())
    few = {"max_examples": 20, "derandomize": True, "deadline": None}
    plain = {"suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate]}
    settings.register_profile("mutants", **few, **plain)
    early = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis was imported before pytest
    options = ["-q", "--hypothesis-profile=mutants", "-W", early, "-p", "no:cacheprovider"]
    return int(pytest.main([*first, *options, *arguments], plugins=[plugin]))


def tests_to_ask():
    """List the files of tests, and the modules with their examples."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    tests = [f"tests/{file.name}" for file in files if not APART.search(file.name)]
    return [*tests, *(f"jacobians/{module}.py" for module in MODULES)]


def notes_of(test, package):
    """Run the tests of a file on the original once: what each one calls and costs."""
    key = hashlib.sha256(package + (ROOT / test).read_bytes()).hexdigest()[:32]
    kept = Path(tempfile.gettempdir()) / f"jacobians-mutants-{key}.json"
    if not kept.exists():

        def work(file):
            notes = {}
            session([test], Calls(notes))
            json.dump(notes, file)
            return 0

        _, text = in_a_fork(work)
        if not text:
            raise SystemExit(f"{test}: its tests do not run")
        kept.write_text(text, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def noted():
    """Return what every test calls and costs, measured where the sources have changed."""
    shared = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    shared = sorted(file for file in shared if not file.name.startswith("test_"))
    package = hashlib.sha256(b"".join(file.read_bytes() for file in shared)).digest()
    tests, notes = tests_to_ask(), {}
    for k, some in in_parallel(lambda k: notes_of(tests[k], package), len(tests)):
        notes |= some
        print(f"\r{len(notes)} tests noted, {tests[k]:50}", end="", file=sys.stderr)
    return notes


def survives(mutant, notes, seconds):
    """Tell whether the tests that call the changed function pass all the same."""
    chosen = chosen_tests(mutant, notes, seconds)
    near, far = chosen[:NEAREST], chosen[NEAREST:]  # whose files are few, and soon collected
    return passes(mutant, notes, near) and (not far or passes(mutant, notes, far))


def passes(mutant, notes, chosen):
    """Tell whether tests pass on a mutant."""
    files = dict.fromkeys(test.split("::")[0] for test in chosen)
    seconds = 10 * sum(notes[test][0] for test in chosen) + 30
    status, _ = in_a_fork(lambda _: session(files, Only(chosen), Changed(mutant)), seconds)
    return os.waitstatus_to_exitcode(status) == 0


def listed_as_equivalent():
    """Read the survivors that the note lists."""
    rows = NOTE.read_text(encoding="utf-8").splitlines() if NOTE.exists() else []
    cells = [row.strip("| ").split(" | ") for row in rows if row.startswith("| `")]
    return {f"| {' | '.join(row[:3])} |" for row in cells if len(row) == 4}


def in_parallel(work, count, end=float("inf")):
    """Yield ``k, work(k)`` for k below count as they are done, on all processors."""
    fork, workers = multiprocessing.get_context("fork"), len(os.sched_getaffinity(0))
    taken, done = fork.Value("i", 0), fork.SimpleQueue()

    def one_after_the_other():
        try:
            while time.monotonic() < end:
                with taken.get_lock():
                    k, taken.value = taken.value, taken.value + 1
                if k >= count:
                    break
                done.put((k, work(k)))
        finally:
            done.put(None)

    processes = [fork.Process(target=one_after_the_other) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        while workers:
            if (result := done.get()) is None:
                workers -= 1
            else:
                yield result
    except KeyboardInterrupt:  # what was done until then is said
        for process in processes:
            process.terminate()
    for process in processes:
        process.join()


def judge(taken, minutes, seconds):
    """Try mutants until the time is over: how many were tried and killed, and the survivors."""
    for name in LIBRARIES:
        importlib.import_module(name)
    notes, end = noted(), time.monotonic() + 60 * minutes
    listed, tried, killed, survivors = listed_as_equivalent(), Counter(), Counter(), []
    for k, alive in in_parallel(lambda k: survives(taken[k], notes, seconds), len(taken), end):
        mutant = taken[k]
        tried[mutant.module] += 1
        killed[mutant.module] += not alive
        if alive and str(mutant) not in listed:
            survivors.append(mutant)
            print(f"\n{mutant} line {mutant.line}", flush=True)
        print(f"\r{killed.total()} of {tried.total()} killed", end=" ", file=sys.stderr)
    print()
    for module, count in tried.items():
        print(f"{module:32} {killed[module]:4} of {count:4} killed")
    print(f"{len(taken) - tried.total()} were not tried")
    return tried.total(), killed.total(), survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", default=[r for r in MODULES if not ASIDE.match(r)])
    parser.add_argument("--mutants", type=int, default=200, help="how many are tried")
    parser.add_argument("--minutes", type=float, default=60, help="and for how long at most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of tests for a mutant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="those whose line contains it")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.dont_write_bytecode = False  # every fork starts sooner
    start = time.monotonic()
    made = [mutant for module in arguments.modules for mutant in mutants(module)]
    if arguments.only:
        made = [m for m in made if any(text in str(m) for text in arguments.only)]
    taken = sampled(made, arguments.mutants, arguments.seed)
    print(f"{len(made):,} mutants of {len(arguments.modules)} modules", flush=True)
    tried, killed, survivors = judge(taken, arguments.minutes, arguments.seconds)
    equivalent, minutes = tried - killed - len(survivors), (time.monotonic() - start) / 60
    share = killed / max(tried - equivalent, 1)
    processor = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) / 60
    print(f"{killed:,} of {tried:,} killed; {equivalent} are listed as equivalent: {share:.1%}")
    print(f"in {minutes:.0f} minutes, {processor:.0f} of processor time")
    return int(tried < len(taken) or share < 0.97)


if __name__ == "__main__":
    sys.exit(main())
