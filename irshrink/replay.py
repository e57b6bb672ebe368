"""Build again what a lock describes, and say whether every byte is the same: ``irshrink replay``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irshrink.compiler import compile_model
from irshrink.console import Progress
from irshrink.errors import RecipeError
from irshrink.files import why_no_file
from irshrink.frontends.convert import digest, model_files
from irshrink.lock import LOCK_NAME, Lock, differences, read_lock, require_model
from irshrink.planning.compiling import PLAN_NAME, read_plan
from irshrink.planning.plan import Plan
from irshrink.recipe import load_recipe

#: What the user has to give again, as the lock keeps only digests. (Of schedules those that ship may do.)
_NEEDED = {"calibration": "--calibration", "eval": "--eval", "metric": "--metric"}


@dataclass(frozen=True)
class Replay:
    """How a second build compares with the first.

    Attributes:
        files: compared.
        missing: files that the second build has and the first one has not.
        different: files whose bytes differ, causes before effects.
        first: where the first of them differs, for people.
        causes: what differs in the lock, a sentence each.
    """

    files: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    first: str | None
    causes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return not self.missing and not self.different

    def sentence(self) -> str:
        """What differs, and what may be the cause."""
        if self.missing and not self.different:
            return f"the builds have different files: {', '.join(self.missing)}."
        why = "see the warnings above" if self.causes else "nothing in the lock says why"
        return f"{len(self.different)} of {self.files} files differ, first {self.first}; {why}."


def replay_build(
    build: Path | str,
    model: Path | str,
    given: Mapping[str, Any] | None = None,
    *,
    progress: Progress = lambda _: None,
) -> Replay:
    """Compile ``model`` by the lock of ``build`` into a folder of its own, and compare all files.

    Files that the user added to ``build`` are left out of the comparison.

    Args:
        build: the folder of an earlier build.
        given: recipe keys that the lock has only digests of: ``calibration``, ``eval``, ``schedules``,
            ``metric``; and ``frontend``.

    Raises:
        RecipeError: there is no lock, it is another model's, or something it was made with is not given.
        IrshrinkError: whatever compiling raises.
    """
    build, model, given = Path(build), Path(model), dict(given or {})
    lock = _lock_of(build)
    for role, option in _NEEDED.items():
        if role in lock.data and role not in given:
            raise RecipeError(f"{build / LOCK_NAME}: was made with {role} data. Give the same with {option}.")
    recipe = load_recipe(build / LOCK_NAME, given)
    require_model(lock, build / LOCK_NAME, digest(model, model_files(model, recipe.frontend)))
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        again = Path(scratch) / "build"
        compile_model(model, recipe, again, plan=_evidence(build, lock), progress=progress)
        progress("comparing")
        new = _lock_of(again)
        return compare_folders(build, again, tuple(differences(lock, new)))


def compare_folders(old: Path, new: Path, causes: tuple[str, ...] = ()) -> Replay:
    """Compare the files of a new build with those of an old one."""
    written = [path.relative_to(new).as_posix() for path in sorted(new.rglob("*")) if path.is_file()]
    written.sort(key=_rank)
    missing = tuple(name for name in written if not (old / name).is_file())
    shared = [name for name in written if name not in missing]
    different = tuple(name for name in shared if (old / name).read_bytes() != (new / name).read_bytes())
    first = None if not different else _where(different[0], old / different[0], new / different[0])
    return Replay(len(shared), missing, different, first, causes)


def _rank(name: str) -> int:
    """Causes before effects: the model, the sources, what is built from them."""
    return 0 if name.endswith(".onnx") else 1 if name.startswith("src/") else 2


def _lock_of(build: Path) -> Lock:
    path = build / LOCK_NAME
    if not path.is_file():
        raise RecipeError(f"{path}: {why_no_file(path)}. Give the folder of a build.")
    lock = read_lock(path)
    if lock is None:
        raise RecipeError(f"{path}: is a recipe, not the lock of a build.")
    return lock


def _evidence(build: Path, lock: Lock) -> Plan | None:
    """How the steps in the lock were found: that is not searched again."""
    plan = build / PLAN_NAME
    return read_plan(plan) if "plan" in lock.data and plan.is_file() else None


def _where(name: str, old: Path, new: Path) -> str:
    """The first byte that differs, and its line in a text."""
    a, b = old.read_bytes(), new.read_bytes()
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if b"\0" in a[:4096] or b"\0" in b[:4096]:
        return f"{name}, byte {place:,} of {len(a):,}"
    line = a[:place].count(b"\n")
    shown = [
        (t.splitlines()[line : line + 1] or [b"(end)"])[0].decode("utf-8", "replace")[:80] for t in (a, b)
    ]
    return f"{name}, line {line + 1}: '{shown[0].strip()}' before, '{shown[1].strip()}' now"
