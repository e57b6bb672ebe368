"""What was measured before, on disk: one file for everything that is comparable.

A file that cannot be read or written costs time and nothing else: what it holds is what measuring gives.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irshrink import files
from irshrink.errors import OutputError

#: One measured member: sizes, turns of loops, cost, bytes of code.
Row = list[float]
_FORMAT = 1


def cost_folder() -> Path:
    """``$XDG_CACHE_HOME/irshrink/costs``, in ``~/.cache`` when unset."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "irshrink" / "costs"


@dataclass
class Store:
    """Rows by the name of what was measured.

    Args:
        path: None keeps them in memory.
    """

    path: Path | None
    rows: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def open(cls, what: str, *about: str, folder: Path | None = None) -> Store:
        """The file for measurements of ``what`` that depend on ``about`` and on nothing else."""
        digest = hashlib.sha256("\0".join((str(_FORMAT), what, *about)).encode("utf-8")).hexdigest()
        path = (folder or cost_folder()) / f"{what}-{digest[:16]}.json"
        return cls(path, _read(path))

    def get(self, name: str) -> list[Row] | None:
        """The rows of a name, if they are known."""
        return self.rows.get(name)

    def put(self, name: str, rows: Sequence[Row]) -> None:
        """Remember rows, beside what others have written since."""
        self.rows[name] = [list(row) for row in rows]
        if self.path is None:
            return
        self.rows = {**_read(self.path), **self.rows}
        text = json.dumps(dict(sorted(self.rows.items())), indent=0, ensure_ascii=False)
        try:
            files.write_text(self.path, text + "\n")
        except OutputError:
            self.path = None  # no folder to remember in: measured again next time


def _read(path: Path) -> dict[str, list[Row]]:
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or not all(map(_is_rows, found.values())):
        return {}
    return found


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(
        isinstance(row, list) and all(isinstance(x, int | float) for x in row) for row in rows
    )
