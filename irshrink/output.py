"""The output folder: ours or empty before, complete or untouched after."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from irshrink.errors import OutputError
from irshrink.lock import LOCK_NAME

#: How the folder's own temporary content is called.
_TEMPORARY = ".irshrink-"


@contextmanager
def fresh_folder(
    out: Path, force: bool = False, marks: Sequence[str] = (LOCK_NAME,), what: str = "build"
) -> Iterator[Path]:
    """An empty folder whose content becomes that of ``out`` when the block ends without an error.

    An earlier build in ``out`` (recognized by its ``recipe.lock``) stays until then. A folder that exists
    is kept and filled, so that ``-o .``, links and mount points work.

    Args:
        force: replace whatever is in ``out``.
        marks: files that all are in what may be replaced.
        what: that is called.

    Raises:
        OutputError: ``out`` is a file, holds something that is not a build, or cannot be written.
    """
    require_replaceable(out, force, marks, what)
    out = Path(os.path.abspath(out))
    made = _missing_parents(out)
    place = out if out.exists() else out.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place, prefix=_TEMPORARY))
    except OSError as e:
        raise _unwritable(out, e) from e
    try:
        yield folder
        _publish(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)
        raise


def require_replaceable(
    out: Path, force: bool = False, marks: Sequence[str] = (LOCK_NAME,), what: str = "build"
) -> None:
    """Check before any work that :func:`fresh_folder` may fill ``out``.

    Raises:
        OutputError: it may not, or cannot.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is not a folder. Choose another one with -o.")
    if out.is_symlink() and not out.exists():
        raise OutputError(f"{out}: is a link to nothing. Choose another folder with -o.")
    _require_writable(out)
    if not out.exists() or force:
        return
    try:
        content = sorted(name for name in os.listdir(out) if not name.startswith(_TEMPORARY))
    except OSError as e:
        raise OutputError(f"{out}: cannot be read: {e.strerror or e}. Choose another folder with -o.") from e
    missing = [mark for mark in marks if mark not in content]
    if content and missing:
        raise OutputError(
            f"{out}: holds '{content[0]}' and is not an earlier irshrink {what} (no {missing[0]}). "
            "Choose another folder with -o, or replace it with --force."
        )


def _require_writable(out: Path) -> None:
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"{out}: '{nearest}' is not a folder. Choose another one with -o.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{out}: no permission to write in '{nearest}'. Choose another folder with -o.")


def _publish(folder: Path, out: Path) -> None:
    try:
        folder.chmod(0o755)
        if not out.exists():
            folder.replace(out)
            return
        old = Path(tempfile.mkdtemp(dir=out, prefix=_TEMPORARY))
        for entry in sorted(out.iterdir()):
            if entry not in (folder, old):
                entry.replace(old / entry.name)
        for entry in sorted(folder.iterdir()):
            entry.replace(out / entry.name)
        folder.rmdir()
        shutil.rmtree(old)
    except OSError as e:
        raise _unwritable(out, e) from e


def _missing_parents(out: Path) -> list[Path]:
    """Folders above ``out`` that must be made, innermost first."""
    return [parent for parent in out.parents if not parent.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _unwritable(out: Path, error: OSError) -> OutputError:
    return OutputError(f"{out}: cannot be written: {error.strerror or error}. Choose another one with -o.")
