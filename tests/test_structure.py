"""The structure: who may import whom, what importing loads, what stands at the top level."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jacobians"

# Each line may import only lines above it; modules on one line are siblings and do not meet.
LAYERS = [
    ["_checks"],
    [
        "_text",
        "_notebook",
        "_writing",
        "_progress",
        "vectorization",
        "_sigma",
        "_differences",
        "_user_derivatives",
    ],
    ["distributed", "_machine", "_names", "_workers"],
    ["witness", "_tables"],
    ["_npz", "_verdicts", "_gated", "_softmax", "_elementary", "_options"],
    ["_activation", "points"],
    ["activations"],
    ["along", "_windows"],
    ["maps"],
    ["layers", "losses", "gradients"],
    ["_graph"],
    ["network"],
    ["tracing"],
    ["linearization"],
    ["program"],
    ["factors"],
    ["grouping"],
    ["_written_out", "_windowed_sweeps", "_typed"],
    ["emitting", "_written_seconds"],
    ["compiling"],
    ["_kernels"],
    ["planning"],
    ["explicit", "backprop", "engine", "rounding"],
    ["bounds", "configuration", "_evidence"],
    ["second_order"],
    ["units", "certificate", "conventions", "plotting", "reports", "derivation"],
    ["diagnosis"],
    ["sensitivities"],
    ["explanation"],
    ["importers"],
    ["files"],
    ["data", "strategies"],
    ["_cli_inputs"],
    ["_cli_explain"],
    ["cli"],
    ["__main__"],
]
LEVEL_OF = {module: number for number, level in enumerate(LAYERS) for module in level}
FOLDERS = {  # inside a folder each file may import only those before it
    "maps": [
        *["base", "elementary", "product", "sums", "kronecker", "selection", "blocks", "graphs"],
        *["convolution", "association"],
    ],
    "layers": ["base", "affine", "norms", "joins", "shaping", "convolution", "pooling"],
    "linearization": ["paths", "rules", "second_differentials", "hessian_maps", "chain"],
    "engine": ["kernels", "running", "scaling", "jacobians", "sweeps"],
    "_kernels": [
        *["build", "codes", "values", "packing", "__init__", "sums", "translating", "gradients"]
    ],
    "second_order": [
        *["compiled", "hessians", "identities", "khatri_rao", "sweeps", "rows", "factors", "grams"],
        *["objective_hessians", "records", "posteriors"],
    ],
    "units": ["edges", "walks", "gradients", "linearization", "networks", "text", "graph"],
    "sensitivities": [
        *["names", "groups", "pieces", "accumulators", "measures", "subspace", "interactions"],
        *["dataset", "statistics"],
        *["text", "exports", "pictures", "page", "record", "comparison"],
        *["streaming", "log_odds", "error_bars"],
    ],
    "explanation": ["segments", "quadrature", "paths", "writing", "record", "explaining"],
    "derivation": [
        *["terms", "functions", "starts", "rules", "evaluation", "notation", "writers"],
        *["markup", "checks", "building", "document", "playing"],
    ],
    "diagnosis": [
        *["ways", "mistakes", "case", "search", "claims", "drawing", "record", "verdicts"],
        "diagnosing",
    ],
    "strategies": ["drawing", "conformance"],
    "conventions": ["products", "rows", "form", "numbering"],
    "plotting": [
        "style",
        "matrices",
        "structures",
        "statistics",
        "comparisons",
        "waterfalls",
        "lines",
    ],
    "importers": [
        *["_folding", "_formulas", "_assembly", "_basics", "_arithmetic", "_steps", "_calls"],
        *["_half", "safetensors_files", "torch_files", "mat_files", "weight_files"],
        *["sklearn_reading", "sklearn_transformers", "sklearn_models", "sklearn_composites"],
        *["scikit_learn", "torch_operators", "torch_modules", "pytorch"],
        *["keras_operators", "keras"],
        *["nnet_files", "keras_files"],
        *["onnx_wire", "onnx_tensors", "onnx_model", "onnx_values", "onnx_shapes", "onnx_folding"],
        *["onnx_elementwise", "onnx_products", "onnx_moves", "onnx_windows"],
        *["onnx_recurrent", "onnx_ml", "onnx_operators", "onnx_files"],
    ],
}
TOP = "__init__"
LIBRARY = {"numpy", "scipy", "jacobians"}
OPTIONAL = {  # imported where it is used, in these modules alone
    "strategies": {"hypothesis", "torch", "jax"},
    "sensitivities": {"pandas"},
    "_progress": {"tqdm"},
    "explanation": {"pandas"},
    "distributed": {"dask"},
    "points": {"pandas", "pyarrow"},
    "plotting": {"matplotlib"},
    "reports": {"jinja2", "matplotlib"},
    "files": {"pandas", "pyarrow"},
    "importers": {"sklearn", "torch", "keras", "h5py", "onnx", "safetensors"},
    "_kernels": {"hatchling"},  # which builds the wheel
}


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Return the dotted names that a file imports, with the line of each."""
    imports = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            folder = PACKAGE.joinpath(*node.module.split(".")[1:])
            if node.module.split(".")[0] == "jacobians" and folder.is_dir():
                inside = [a.name if (folder / f"{a.name}.py").exists() else "" for a in node.names]
                if node.module == "jacobians":
                    inside = [alias.name for alias in node.names]
                imports += [(f"{node.module}.{name}".rstrip("."), node.lineno) for name in inside]
            else:
                imports.append((node.module, node.lineno))
    return imports


def forbidden_edges(path, imports):
    """Name every import that runs upwards or sideways, or reaches for an optional package."""
    return [f"{path.name}:{line} imports {name}" for name, line in imports if forbidden(path, name)]


def forbidden(path, name):
    module, (top, *rest) = module_of(path), name.split(".")
    if top != "jacobians" or not rest:
        return top not in sys.stdlib_module_names | LIBRARY | OPTIONAL.get(module, set())
    if module == TOP:
        return rest[0] == "strategies"  # which is of no use without its optional package
    if rest[0] == module:
        order, mine, theirs = FOLDERS[module], path.stem, (rest[1:] or [TOP])[0]
        return mine != TOP and order.index(theirs) >= order.index(mine)
    return LEVEL_OF.get(rest[0], 99) >= LEVEL_OF[module]


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert not forbidden_edges(path, imports_of(path))


def test_every_module_stands_on_the_plan():
    assert {module_of(path) for path in FILES} <= set(LEVEL_OF) | {TOP}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("backprop", "jacobians.explicit"),
        ("explicit", "jacobians.engine"),
        ("layers", "jacobians.network"),
        ("maps/kronecker", "jacobians.network"),
        ("maps/elementary", "jacobians.maps.product"),
        ("witness", "jacobians.explicit"),
        ("network", "pandas"),
        ("engine", "hypothesis"),
        ("__init__", "jacobians.strategies"),
    ],
)
def test_a_forbidden_import_is_found(module, imported):
    assert forbidden_edges(PACKAGE / f"{module}.py", [(imported, 1)])


def test_witness_knows_numpy_and_checks_only():
    ours = {name for name, _ in imports_of(PACKAGE / "witness.py") if name.startswith("jacobians")}
    assert ours == {"jacobians._checks", "jacobians._differences"}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}, set(run.stdout.split())


def test_import_loads_nothing_optional_and_nothing_heavy():
    """No optional package, and scipy's parts only where they are used; not a module of ours."""
    packages, modules = loaded_by("import jacobians")
    meant = sys.stdlib_module_names | {"numpy", "jacobians"}
    started = loaded_by("pass")[0]  # what the interpreter itself brings along
    assert packages - meant - started <= {"__main__"}
    assert not {m for m in modules if m.startswith(("scipy", "jacobians."))}


def test_the_first_jacobian_loads_the_engine_alone():
    code = "import jacobians as jb; jb.jacobian(jb.Network.random([3, 2], seed=0), [1, 2, 3])"
    loaded = {m for m in loaded_by(code)[1] if m.startswith("jacobians.")}
    modules = {m.split(".")[1] for m in loaded}
    assert "engine" in modules
    assert not modules & {"importers", "units", "sensitivities", "plotting", "reports", "witness"}


def test_names_that_load_on_first_use_are_the_ones_that_type_checkers_see():
    """One list for tools, one for the run, one in ``__all__``: the same names, the same homes."""
    import jacobians as jb

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("jacobians").lstrip(".")
        for node in block.body
        for alias in node.names
    }
    modules = {name for name, home in seen.items() if not home}
    assert {name: home for name, home in seen.items() if home} == jb._HOME_OF
    assert set(seen) == set(jb.__all__)
    assert len(jb.__all__) == len(set(jb.__all__))
    # a module that is loaded by another one would hide a name of its own
    assert not set(jb._HOME_OF) & {module_of(path) for path in FILES}
    assert modules <= {module_of(path) for path in FILES}
    for name in jb.__all__:
        assert getattr(jb, name) is not None


def test_tab_completion_and_misspelt_names():
    code = "import jacobians as jb; print(*dir(jb))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import jacobians as jb

    assert set(jb.__all__) <= set(run.stdout.split())
    assert jb.linearization.linearize.__name__ == jb.linearize.__name__  # modules too
    with pytest.raises(AttributeError, match="'jacobians' has no attribute 'jacobain'"):
        _ = jb.jacobain


def test_strategies_say_which_extra_they_need():
    code = "import sys; sys.modules['hypothesis'] = None; import jacobians.strategies"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (
        'jacobians.strategies needs hypothesis: pip install "jacobians[strategies]"' in run.stderr
    )


def test_top_level_is_the_card_and_nothing_more():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    top = {name.split("/")[0] for name in tracked} or {path.name for path in ROOT.iterdir()}
    card = {"pyproject.toml", "README.md", "jacobians", "tests", "examples", "paper_notes"}
    assert {name for name in top if not name.startswith(".")} - {"LICENSE"} <= card


def test_runtime_needs_numpy_and_scipy_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"numpy", "scipy"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_one_idea(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module begins by saying what it is about"


def public_functions():
    import jacobians as jb

    homes = [jb, jb.explicit, jb.backprop, jb.witness]
    for home in homes:
        for name in getattr(home, "__all__", None) or vars(home):
            thing = getattr(home, name)
            ours = (getattr(thing, "__module__", None) or "").startswith("jacobians")
            if ours and callable(thing) and not name.startswith("_"):
                yield f"{home.__name__}.{name}", thing


@pytest.mark.parametrize(("name", "thing"), sorted(dict(public_functions()).items()))
def test_public_names_have_docstrings(name, thing):
    assert thing.__doc__
    assert thing.__doc__.strip()[0].isupper() or thing.__doc__.strip()[0] in "`("
