"""The shape of the house (docs/architecture.md): who imports whom, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
#: Top-level folders and the packages that they are.
HOUSES = {"irshrink": "irshrink", "passes": "irshrink.passes", "backends": "irshrink.backends"}
#: What the command line calls: they stand above passes and backends, the framework below.
APPLICATION = (
    "__main__",
    "api",
    "cli",
    "commands",
    "compiler",
    "explain",
    "inspect",
    "optimize",
    "planning",
    "replay",
    "proof",
    "tune",
    "variants",
)
LINES = 400
SUFFIXES = {".py", ".h", ".c", ".j2", ".ld"}


@dataclass(frozen=True)
class Import:
    """``importer`` uses ``imported``; ``for_types`` under TYPE_CHECKING only."""

    importer: str
    imported: str
    for_types: bool
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def _modules() -> dict[str, Path]:
    found = {}
    for folder, package in HOUSES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "irshrink" and parts[0] in ("passes", "backends"):
                continue  # the links
            found[".".join((package, *parts)).removesuffix(".__init__")] = file
    return found


MODULES = _modules()


def _imports(name: str) -> Iterator[Import]:
    def visit(node: ast.AST, for_types: bool, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, for_types, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield Import(name, full if full in MODULES else str(child.module), for_types, lazy)
            elif isinstance(child, ast.FunctionDef):
                yield from visit(child, for_types, True)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from visit(child, True, lazy)
            else:
                yield from visit(child, for_types, lazy)

    yield from visit(ast.parse(MODULES[name].read_text("utf-8")), False, False)


IMPORTS = [one for name in MODULES for one in _imports(name)]


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def floor(name: str) -> str:
    """``passes``, ``backends``, ``application``, ``framework``, or nothing for other people's packages."""
    if not within(name, "irshrink"):
        return ""
    first = [*name.split("."), ""][1]
    if first in ("passes", "backends"):
        return first
    return "application" if first in APPLICATION else "framework"


def room(name: str) -> str:
    """A file or folder directly under ``irshrink``, ``passes`` or ``backends``."""
    parts = name.split(".")
    return ".".join(parts[: 3 if parts[1:2] in (["passes"], ["backends"]) else 2])


def test_the_framework_knows_neither_passes_nor_backends() -> None:
    tables = {("irshrink.registry", "irshrink.passes"), ("irshrink.registry", "irshrink.backends")}
    wrong = [
        one
        for one in IMPORTS
        if floor(one.importer) == "framework"
        and floor(one.imported) not in ("framework", "")
        and (one.importer, one.imported) not in tables
        and not (one.importer == "irshrink" and (one.for_types or one.lazy))  # the public face, lazily
    ]
    assert not wrong, [str(one) for one in wrong]


@pytest.mark.parametrize(("of", "other"), [("passes", "backends"), ("backends", "passes")])
def test_passes_and_backends_know_the_framework_alone(of: str, other: str) -> None:
    wrong = [
        one for one in IMPORTS if floor(one.importer) == of and floor(one.imported) in (other, "application")
    ]
    assert not wrong, [str(one) for one in wrong]


def test_the_application_takes_passes_and_backends_by_name() -> None:
    wrong = [
        one
        for one in IMPORTS
        if floor(one.importer) == "application"
        and floor(one.imported) in ("passes", "backends")
        and one.imported != "irshrink.passes.cleanup"  # the one list that every flow starts with
    ]
    assert not wrong, [str(one) for one in wrong]


def test_one_door_to_each_heavy_library() -> None:
    doors = {"tvm": "irshrink.backends.tvm", "tvm_ffi": "irshrink.backends.tvm"}
    doors |= {"onnxruntime": "irshrink.onnxrt", "unicorn": "irshrink.backends.unicorn"}
    for library, door in doors.items():
        users = {one.importer for one in IMPORTS if within(one.imported, library)}
        assert all(within(user, door) for user in users), f"{library} is imported by {sorted(users)}"


def test_what_is_heavy_is_imported_late() -> None:
    """What the command line imports to print its help must not load a compiler (0.3 s)."""
    graph = nx.DiGraph()
    graph.add_edges_from((one.importer, one.imported) for one in IMPORTS if not (one.lazy or one.for_types))
    graph.add_edges_from((name, name.rpartition(".")[0]) for name in MODULES)  # a package comes first
    loaded = nx.descendants(graph, "irshrink.cli")
    heavy = {"tvm", "onnx", "onnxruntime", "onnxscript", "scipy", "unicorn", "numpy", "PIL"}
    assert not {name for name in loaded if name.split(".")[0] in heavy}


def test_converters_stand_alone() -> None:
    """They run in other interpreters, where irshrink is not installed."""
    wrong = [
        one
        for one in IMPORTS
        if within(one.importer, "irshrink.frontends.converters") and within(one.imported, "irshrink")
    ]
    assert not wrong, [str(one) for one in wrong]


def test_no_room_imports_itself_through_others() -> None:
    edges = {
        (room(one.importer), room(one.imported))
        for one in IMPORTS
        if not one.for_types and one.imported in MODULES and one.imported != "irshrink"
    }
    graph = nx.DiGraph()
    graph.add_edges_from((a, b) for a, b in sorted(edges) if a != b)
    assert nx.is_directed_acyclic_graph(graph), nx.find_cycle(graph)


def test_no_file_needs_a_map() -> None:
    folders = (*HOUSES, "tests", "models", "benchmarks")
    files = {file.resolve() for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()}
    code = [file for file in files if file.suffix in SUFFIXES and "build" not in file.parts]
    long = {
        str(file.relative_to(ROOT)): count
        for file in code
        if (count := len(file.read_text("utf-8").splitlines())) > LINES
    }
    assert not long, f"more than {LINES} lines: {long}"
