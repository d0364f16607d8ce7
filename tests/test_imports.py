"""The order of imports: downwards only, heavy libraries on use, sorted and true `__all__`."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A layer may import the layers it lists here (and itself). The order is the architecture; see docs/architecture.md.
BASE = {"errors", "codec", "files", "lock"}
ORACLE_SIDE = BASE | {"models", "graph"}
SEARCH_SIDE = ORACLE_SIDE | {"oracle", "compress"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "codec": {"errors"},
    "files": {"errors"},
    "lock": {"errors", "files"},
    "models": BASE,
    "graph": BASE | {"models"},
    "oracle": ORACLE_SIDE | {"relay_passes"},
    "compress": ORACLE_SIDE,
    "search": SEARCH_SIDE,
    "report": SEARCH_SIDE | {"search"},
    "jobs": SEARCH_SIDE | {"search", "report"},
    "cli": SEARCH_SIDE | {"search", "report", "jobs"},
    "relay_passes": {"errors"},
}
MAY_IMPORT_TVM = {"oracle", "relay_passes"}
# The root only names what users import, each on first use, so it may point at any layer.
ROOT_MODULE = "tvm_prune/__init__.py"

SOURCES = sorted(path for package in ("tvm_prune", "relay_passes") for path in (ROOT / package).rglob("*.py"))
LAYERED = [path for path in SOURCES if path.relative_to(ROOT).as_posix() != ROOT_MODULE]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] != "tvm_prune" or len(parts) == 1 else parts[1]


def isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name: the order that ruff keeps (RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def imported_modules(path: Path) -> list[str]:
    """Return every module that the file imports anywhere, inside functions too, relative imports resolved."""
    package = path.parent.relative_to(ROOT).parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += (node.module or "").split(".") if node.module else []
            origin = ".".join(base)
            # `from tvm_prune import graph` names a layer only in its list of names.
            found += [f"{origin}.{alias.name}" for alias in node.names] if origin == "tvm_prune" else [origin]
    return found


@pytest.mark.parametrize("path", LAYERED, ids=name_of)
def test_a_module_imports_only_layers_below_it(path: Path) -> None:
    layer = layer_of(name_of(path))
    assert layer in MAY_IMPORT, f"{layer} is no layer: add it to the table and to docs/architecture.md"
    ours = {layer_of(name) for name in imported_modules(path) if name.split(".")[0] in ("tvm_prune", "relay_passes")}
    assert ours - {"__version__"} <= MAY_IMPORT[layer] | {layer}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_oracle_and_the_passes_import_tvm(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported_modules(path)}
    if layer_of(name_of(path)) not in MAY_IMPORT_TVM:
        assert not roots & {"tvm", "tvm_ffi"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_graph_layer_knows_torch_pruning(path: Path) -> None:
    if "torch_pruning" in {name.split(".")[0] for name in imported_modules(path)}:
        assert layer_of(name_of(path)) == "graph"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_names_are_sorted_and_exist(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "a module starts with a docstring"
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names = ast.literal_eval(node.value)
            assert names == sorted(names, key=isort_key)
            module = importlib.import_module(name_of(path))
            assert [name for name in names if not hasattr(module, name)] == []
            return
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body), "a module lists __all__"


@pytest.mark.parametrize("module", ["tvm_prune", "tvm_prune.cli", "tvm_prune.errors", "tvm_prune.oracle.table"])
def test_importing_loads_neither_torch_nor_tvm(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'tvm', 'lightning') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
