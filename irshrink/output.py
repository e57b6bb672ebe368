"""The output folder: ours or empty before, complete or untouched after."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irshrink.errors import OutputError
from irshrink.lock import LOCK_NAME


@contextmanager
def fresh_folder(out: Path, force: bool = False) -> Iterator[Path]:
    """An empty folder beside ``out`` that takes its place when the block ends without an error.

    An earlier build in ``out`` (recognized by its ``recipe.lock``) stays until then.

    Args:
        force: replace whatever is in ``out``.

    Raises:
        OutputError: ``out`` is a file, holds something that is not a build, or cannot be written.
    """
    require_replaceable(out, force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as e:
        raise OutputError(f"{out}: cannot be written: {e.strerror or e}. Choose another one with -o.") from e
    try:
        yield folder
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_replaceable(out: Path, force: bool = False) -> None:
    """Check before any work that :func:`fresh_folder` may replace ``out``.

    Raises:
        OutputError: it may not.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is not a folder. Choose another one with -o.")
    if not out.exists() or force:
        return
    try:
        content = sorted(os.listdir(out))
    except OSError as e:
        raise OutputError(f"{out}: cannot be read: {e.strerror or e}. Choose another folder with -o.") from e
    if content and LOCK_NAME not in content:
        raise OutputError(
            f"{out}: holds '{content[0]}' and is not an earlier irshrink build (no {LOCK_NAME}). "
            "Choose another folder with -o, or replace it with --force."
        )


def _replace(folder: Path, out: Path) -> None:
    try:
        folder.chmod(0o755)
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            out.replace(old)
            shutil.rmtree(old)
        folder.replace(out)
    except OSError as e:
        raise OutputError(f"{out}: cannot be replaced: {e.strerror or e}.") from e
