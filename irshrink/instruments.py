"""Watching a pipeline: dumps, differences, progress, and the numeric check behind ``--verify``.

Time, statistics and notes of every pass are in ``Module.history`` already; instruments are for what costs
something and is not always wanted.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irshrink.errors import PassError
from irshrink.files import write_text
from irshrink.module import Module, PassRecord
from irshrink.pipeline import Pass
from irshrink.samples import Samples

Array = npt.NDArray[Any]


@dataclass
class Dump:
    """Write the graph as text after every pass that changed it: ``000-input.txt``, ``003-fold-pad.txt``.

    The number is the position among all passes that ran.

    Raises:
        OutputError: the folder cannot be written.
    """

    folder: Path
    _count: int = 0

    def before(self, step: Pass, module: Module) -> None:
        if self._count == 0:
            write_text(self.folder / "000-input.txt", module.text())

    def after(self, step: Pass, module: Module, record: PassRecord) -> None:
        self._count += 1
        if record.changed:
            write_text(self.folder / f"{self._count:03d}-{step.name}.txt", module.text())


@dataclass
class DiffText:
    """Hand a unified diff of the graph's text to ``write`` after every pass that changed it."""

    write: Callable[[str], object]
    _text: str | None = None

    def before(self, step: Pass, module: Module) -> None:
        if self._text is None:
            self._text = module.text()

    def after(self, step: Pass, module: Module, record: PassRecord) -> None:
        if not record.changed:
            return
        old, self._text = self._text or "", module.text()
        names = ("before", f"after {step.name}")
        lines = difflib.unified_diff(old.splitlines(), self._text.splitlines(), *names, lineterm="", n=1)
        self.write("\n".join(lines))


@dataclass
class Progress:
    """Tell ``say`` the name of every pass before it runs."""

    say: Callable[[str], object]

    def before(self, step: Pass, module: Module) -> None:
        self.say(step.name)

    def after(self, step: Pass, module: Module, record: PassRecord) -> None:
        pass


@dataclass
class CheckNumerics:
    """Run the model before and after every non-lossy pass that changed it; the outputs must agree.

    ``tolerance`` is the largest difference allowed, as a fraction of the largest magnitude of that output
    over the samples. A pass that computes the same function may still sum in another order or round a
    folded weight: both change a dot product of n terms by about sqrt(n) * 2^-24 of its magnitude (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 4.2), 4e-6 for the largest n = 4608 of
    common networks, and depth adds up to an order of magnitude. 1e-4 leaves room above that; a wrong fold
    is off by percents. Outputs of integers and booleans must be equal.

    Attributes:
        samples: what to run on; ``limit`` of them are used.
        floor: a smaller magnitude counts as this one. An output near 0 may be what cancellation has left of
            numbers near 1 (the mean of a normalized row, say), and has no digit to compare.
    """

    samples: Samples
    tolerance: float = 1e-4
    limit: int = 8
    floor: float = 0.01
    _expected: list[dict[str, Array]] | None = field(default=None, repr=False)

    def before(self, step: Pass, module: Module) -> None:
        if self._expected is None and not step.lossy:
            self._expected = self._run(module)

    def after(self, step: Pass, module: Module, record: PassRecord) -> None:
        """
        Raises:
            PassError: an output changed; names the pass, the output, the sample and by how much.
        """
        if not record.changed:
            return
        if step.lossy or self._expected is None:
            self._expected = None
            return
        actual = self._run(module)
        self._compare(self._expected, actual, module)
        self._expected = actual

    def _run(self, module: Module) -> list[dict[str, Array]]:
        from irshrink import onnxrt

        # Unoptimized: what is checked is the graph as it is written.
        session = onnxrt.session(module.model, optimize=False)
        return [onnxrt.run(session, feed) for feed in self.samples.spread(self.limit).feeds()]

    def _compare(
        self, expected: list[dict[str, Array]], actual: list[dict[str, Array]], module: Module
    ) -> None:
        for name in expected[0]:
            peak = largest_magnitude([outputs[name] for outputs in expected])
            allowed = self.tolerance * max(peak, self.floor)
            for number, (old, new) in enumerate(zip(expected, actual, strict=True)):
                reason = difference(old[name], new[name], allowed)
                if reason is not None:
                    raise PassError(self._message(module, name, number, reason, peak))

    def _message(self, module: Module, name: str, number: int, reason: str, peak: float) -> str:
        picked = self.samples.spread(self.limit)
        where = picked.source.describe(int(picked.select[number]))
        *before, last = (record.name for record in module.history)
        return (
            f"pass '{last}' changed output '{name}' at {where}: {reason}, where the largest magnitude is "
            f"{peak:.6g} (passes before it: {', '.join(before) or 'none'})"
        )


def largest_magnitude(arrays: list[Array]) -> float:
    """The largest finite absolute value, 0.0 for arrays without one."""
    finite = [np.abs(a[np.isfinite(a)]).max(initial=0) for a in arrays if a.dtype.kind == "f"]
    return float(max(finite, default=0.0))


def difference(expected: Array, actual: Array, allowed: float) -> str | None:
    """What differs between two outputs, or None when they agree within ``allowed`` (floats only)."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"{expected.dtype}{list(expected.shape)} became {actual.dtype}{list(actual.shape)}"
    if expected.dtype.kind != "f":
        wrong = int((expected != actual).sum())
        return f"{wrong} of {expected.size} elements differ" if wrong else None
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(expected.astype(np.float64) - actual))
    distance = np.where(np.isfinite(distance), distance, np.inf)
    worst = float(distance.max(initial=0.0))
    return f"off by {worst:.6g}" if worst > allowed else None
