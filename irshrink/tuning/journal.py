"""What was measured so far, one line a trial: a search that was killed goes on where it was.

A line is written and flushed to disk as soon as its trial ends, so that at most the trial that ran is lost. A
half-written last line is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irshrink.errors import OutputError, RecipeError
from irshrink.tuning.database import Schedule


@dataclass(frozen=True)
class Measurement:
    """One schedule of one workload: its cost, or why it has none.

    Attributes:
        kernel: name of the C function; ``specialized`` if it is only for this workload.
        code_bytes: its machine code, 0 where that is not known.
    """

    schedule: Schedule
    cost: float | None
    failure: str | None = None
    kernel: str = ""
    specialized: bool = False
    code_bytes: int = 0


class Journal:
    """The file beside the output.

    Args:
        identity: what the figures depend on besides workload and schedule: target, cost, kernels.

    Attributes:
        found: measurements by workload, in the order they were made.
        finals: those of schedules that ran against each other once more.
        notes: sentences for the user.

    Raises:
        RecipeError: it was written for another target or cost.
        OutputError: it cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path, self._identity = path, dict(identity)
        self.found: dict[str, list[Measurement]] = {}
        self.finals: dict[str, list[Measurement]] = {}
        self._trials: dict[str, int] = {}
        self.notes: list[str] = []
        try:
            self._open()
        except OSError as e:
            raise OutputError(f"{path}: cannot be written: {e.strerror or e}.") from e

    def add(self, workload: str, measured: Sequence[Measurement], *, final: bool = False) -> None:
        """Keep one trial, on disk before this returns.

        Raises:
            OutputError: it cannot be written.
        """
        results = [
            [dict(m.schedule), m.cost, m.failure, m.kernel, m.specialized, m.code_bytes] for m in measured
        ]
        self._write({"workload": workload, "results": results, **({"final": True} if final else {})})
        self._take(workload, measured, final)

    def trials_of(self, workload: str) -> int:
        """How many it holds."""
        return self._trials.get(workload, 0)

    def _take(self, workload: str, measured: Sequence[Measurement], final: bool) -> None:
        if final:
            self.finals[workload] = list(measured)
            return
        self.found.setdefault(workload, []).extend(measured)
        self._trials[workload] = self.trials_of(workload) + 1

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines, whole = self._lines()
        if lines and self._continues(lines[0]):
            for line in lines[1:]:
                measured = [Measurement(*result) for result in line["results"]]
                self._take(line["workload"], measured, line.get("final", False))
            os.truncate(self.path, whole)
            return
        self.path.write_bytes(b"")
        self._write({"journal": 1, **self._identity})

    def _lines(self) -> tuple[list[dict[str, Any]], int]:
        """The whole lines, and how many bytes they take."""
        lines: list[dict[str, Any]] = []
        whole = 0
        for raw in self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []:
            try:
                line = json.loads(raw)
            except ValueError:
                break
            if not raw.endswith(b"\n") or not isinstance(line, dict):
                break
            lines.append(line)
            whole += len(raw)
        if not lines and self.path.is_file() and self.path.stat().st_size:
            raise RecipeError(f"{self.path}: is no journal of `irshrink tune`. Choose another -o.")
        return lines, whole

    def _continues(self, first: Mapping[str, Any]) -> bool:
        if first.get("journal") != 1:
            raise RecipeError(f"{self.path}: is no journal of `irshrink tune`. Choose another -o.")
        for key, value in self._identity.items():
            if first.get(key) == value:
                continue
            if key != "kernels":
                raise RecipeError(
                    f"{self.path}: was written for {key} {first.get(key)}, not {value}. Choose another -o, "
                    "or remove it."
                )
            self.notes.append(f"{self.path} was measured with other kernels; it was begun anew.")
            return False
        return True

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as stream:
                stream.write(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as e:
            raise OutputError(f"{self.path}: cannot be written: {e.strerror or e}.") from e
