"""What was computed for a subject, on disk: models between steps, and what evaluations found.

Content is kept under its own SHA-256 and checked when it is read, so that a damaged or truncated file is no
entry, and is computed again. Every file is written beside and renamed; two processes that write the same
entry write the same bytes.

    plans/<subject>/stages/<key>.json       what a model is after some steps; names its blobs
    plans/<subject>/blobs/<sha256>          models and arrays
    plans/<subject>/evaluations/<key>.json  :class:`irshrink.planning.evaluate.Measured`
    plans/<subject>/judges/<key>.json       :class:`irshrink.planning.judging.Grounds`
    plans/<subject>/log                     a line for everything that was computed
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irshrink import files

__all__ = ["Journal", "default_folder", "key_of", "plans_folder"]

#: Bytes of all models that the folder of a user keeps. Those used longest ago go first.
MOST_BYTES = 4 << 30
#: Seconds after which a file that nobody finished writing is rubbish.
_ABANDONED = 3600.0


def plans_folder() -> Path:
    """``$XDG_CACHE_HOME/irshrink/plans``, in ``~/.cache`` when unset."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "irshrink" / "plans"


def default_folder(digest: str) -> Path:
    """Where the journal of a subject is, unless somebody says otherwise."""
    return plans_folder() / digest[:16]


def key_of(*parts: object) -> str:
    """The name of an entry that depends on ``parts``, plain data, and on nothing else."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:40]


@dataclass(frozen=True)
class Journal:
    """Entries in a folder."""

    folder: Path

    def get(self, kind: str, key: str) -> Any | None:
        """An entry as plain data; None where there is none, or a damaged one."""
        try:
            found = json.loads(self._entry(kind, key).read_text("utf-8"))
            content = found["content"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return content if found.get("sha256") == _digest_of(content) else None

    def put(self, kind: str, key: str, content: Any) -> None:
        """
        Raises:
            OutputError: the folder cannot be written.
        """
        text = json.dumps({"sha256": _digest_of(content), "content": content}, ensure_ascii=False)
        files.write_text(self._entry(kind, key), text)

    def has_blob(self, name: str) -> bool:
        return self._blob(name).is_file()

    def blob(self, name: str) -> bytes | None:
        """Content by its digest; None where it is not there, or damaged."""
        path = self._blob(name)
        try:
            data = path.read_bytes()
            os.utime(path)  # used just now
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == name else None

    def put_blob(self, data: bytes) -> str:
        """Keep content, if it is not there already; returns its digest.

        Raises:
            OutputError: the folder cannot be written.
        """
        name = hashlib.sha256(data).hexdigest()
        if self.blob(name) is None:
            files.write_bytes(self._blob(name), data)
        return name

    def say(self, *words: str) -> None:
        """One line in the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("a", encoding="utf-8") as stream:
            stream.write(" ".join(words) + "\n")

    def log(self) -> list[list[str]]:
        """What was computed, in order, by all processes."""
        try:
            return [line.split() for line in (self.folder / "log").read_text("utf-8").splitlines()]
        except OSError:
            return []

    def tidy(self, most_bytes: int = MOST_BYTES) -> None:
        """Drop the models used longest ago until at most so many bytes are left.

        In the user's cache that is over all subjects. A stage without its model is computed again.
        """
        everything = self.folder.parent == plans_folder()
        found = sorted(_blobs((self.folder.parent if everything else self.folder), everything))
        total = sum(size for _, size, _ in found)
        for used, size, path in found:
            abandoned = path.name.startswith(".") and time.time() - used > _ABANDONED
            if total <= most_bytes and not abandoned:
                continue
            path.unlink(missing_ok=True)
            total -= size

    def _entry(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.json"

    def _blob(self, name: str) -> Path:
        return self.folder / "blobs" / name


def _blobs(folder: Path, everything: bool) -> Iterator[tuple[float, int, Path]]:
    """When each was last used, its size, its place."""
    for path in folder.glob("*/blobs/*" if everything else "blobs/*"):
        try:
            status = path.stat()
        except OSError:  # another process tidies up as well
            continue
        yield status.st_mtime, status.st_size, path


def _digest_of(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, tuple | frozenset | set):
        return sorted(value) if isinstance(value, frozenset | set) else list(value)
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} is no plain data")
