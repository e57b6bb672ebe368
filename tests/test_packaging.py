"""The layout: links, the wheel, public names, what start-up imports, and plug-ins."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import irshrink

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "Build",
    "Context",
    "IrshrinkError",
    "Module",
    "Pass",
    "PassResult",
    "Pipeline",
    "Recipe",
    "Target",
    "compile",
    "compile_model",
    "from_sklearn",
    "from_torch",
    "load_build",
    "load_module",
    "load_target",
    "plan",
    "read_model",
]


def python(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def install(source: Path, folder: Path) -> Path:
    """The source installed into a folder of its own, from a wheel, without the network."""
    wheels = folder / "wheels"
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(wheels)]
    done = python(*build, str(source), cwd=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the project's wheel puts into site-packages. Built from a copy: a build writes into its source."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        source, copy = ROOT / name, folder / "source" / name
        if not source.is_symlink() and not source.is_file():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        else:
            copy.write_bytes(source.read_bytes())
    return install(folder / "source", folder)


@pytest.mark.parametrize("name", ["passes", "backends"])
def test_links_resolve_to_the_top_level_folders(name: str) -> None:
    link = ROOT / "irshrink" / name
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


@pytest.mark.long
def test_the_wheel_holds_everything_and_nothing_else(site: Path) -> None:
    assert {p.name for p in site.iterdir() if not p.name.endswith(".dist-info")} == {"irshrink"}
    for top in ("irshrink", "passes", "backends"):
        package = site / "irshrink" / ("" if top == "irshrink" else top)
        sources = [p for p in (ROOT / top).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        missing = [p for p in sources if not (package / p.relative_to(ROOT / top)).is_file()]
        assert not missing, "add them to package-data in pyproject.toml"


@pytest.mark.long
def test_the_wheel_works_outside_the_repository(site: Path, tmp_path: Path) -> None:
    listed = python("-m", "irshrink", "passes", cwd=tmp_path, path=site)
    assert listed.returncode == 0, listed.stderr
    assert "fold-batchnorm" in listed.stdout
    where = python("-c", "import irshrink.passes; print(irshrink.passes.__file__)", cwd=tmp_path, path=site)
    assert Path(where.stdout.strip()) == site / "irshrink" / "passes" / "__init__.py"


@pytest.mark.parametrize("name", ["passes", "backends"])
def test_the_folders_are_no_packages_of_their_own(name: str, tmp_path: Path) -> None:
    done = python("-c", f"import {name}", cwd=tmp_path)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_public_names() -> None:
    assert sorted(irshrink.__all__) == PUBLIC
    assert dir(irshrink) == PUBLIC
    for name in PUBLIC:
        assert getattr(irshrink, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = irshrink.nothing


@pytest.mark.parametrize("command", [["--help"], ["targets"], ["compile", "--help"]])
def test_start_up_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from irshrink.cli import run; code = run(sys.argv[1:]); "
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'tvm', 'scipy', 'rich', 'unicorn', 'PIL'}; "
        "print('loaded:', *sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    done = python("-c", code, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_a_plugin_is_found_and_its_options_are_checked(tmp_path: Path) -> None:
    site = install(ROOT / "tests" / "plugin", tmp_path)
    shown = python("-m", "irshrink", "passes", "round-weights", cwd=tmp_path, path=site)
    assert shown.returncode == 0, shown.stderr
    assert "Round float32 weights" in shown.stdout
    code = "from irshrink.registry import make_pass; make_pass('round-weights', {'bits': 24})"
    refused = python("-c", code, cwd=tmp_path, path=site)
    assert "RecipeError: pass 'round-weights': bits is 24; float32 has 1 to 23" in refused.stderr


def test_plans_turn_a_knob_of_a_plugin(tmp_path: Path) -> None:
    site = install(ROOT / "tests" / "plugin", tmp_path)
    code = (
        "from irshrink.knobs import Wishes; from irshrink.module import load_module; "
        "from irshrink.planning.knobs_of import knobs_of; from irshrink.recipe import make_recipe; "
        "from irshrink.target import load_target; target = load_target('cortex-m4'); "
        "recipe = make_recipe({'target': 'cortex-m4', 'calibration': 'samples.npz'}); "
        f"module = load_module({str(ROOT / 'models' / 'ad.onnx')!r}); "
        "wishes = Wishes(frozenset({'size'}), True, 8, target, False); "
        "print(*(k.name for k in knobs_of(module, wishes, recipe)))"
    )
    done = python("-c", code, cwd=tmp_path, path=site)
    assert done.stdout.split() == [
        "prune-channels",
        "low-rank",
        "prune-weights",
        "round-weights",
        "store-huffman",
        "quantize-mixed",
    ], done.stderr


def test_a_name_that_is_taken_is_an_error(tmp_path: Path) -> None:
    for folder in ("irshrink_again", "again-1.0.dist-info"):
        (tmp_path / folder).mkdir()
    (tmp_path / "irshrink_again" / "__init__.py").write_text("")
    (tmp_path / "again-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: again\nVersion: 1.0\n"
    )
    entry = "[irshrink.passes]\nfold-batchnorm = irshrink_again:Again\n"
    (tmp_path / "again-1.0.dist-info" / "entry_points.txt").write_text(entry)
    done = python("-m", "irshrink", "passes", cwd=tmp_path, path=tmp_path)
    assert done.returncode == 1
    assert "'fold-batchnorm' of irshrink.passes is registered twice" in done.stderr
