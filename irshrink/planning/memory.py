"""How many processes that try plans fit into memory; nothing that is found depends on it.

What one takes is estimated from what it holds: Python and its libraries, the second moments that passes fit
weights by, layer by layer (:mod:`irshrink.calibration.moments`), activations, the model, and samples. The
factors are of measurements (docs/decisions/0040-stages.md), rounded up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

import onnx_ir as ir

from irshrink.analyses.cost import graph_parameters
from irshrink.calibration.patches import row_shapes
from irshrink.graph.edit import static_shape
from irshrink.planning.judging import MOST_HELD_BYTES
from irshrink.planning.subject import Subject

__all__ = ["available_bytes", "fitting", "process_bytes"]

#: Bytes of a process that tries a plan of the smallest model.
_BASE = 500 << 20
#: How often the second moments of all layers, the activations of an inference and the model are in memory.
_MOMENTS, _ACTIVATIONS, _MODELS = 10, 12, 2


def process_bytes(subject: Subject) -> int:
    """Estimate of what a process takes at most that tries plans for the subject."""
    graph = subject.module.graph
    activations = _float_bytes(value for node in graph for value in node.outputs)
    moments = 8 * sum(groups * inputs**2 for groups, _, inputs in row_shapes(graph))
    model = 4 * graph_parameters(graph)
    passes = _MOMENTS * moments + _ACTIVATIONS * activations + _MODELS * model
    return _BASE + passes + _judging(subject)


def _judging(subject: Subject) -> int:
    """Samples that judge, unless they are read each time, and what the original says to them."""
    held = subject.held
    sample = sum(array.nbytes for array in next(held.feeds(), {}).values())
    return min(len(held) * sample, MOST_HELD_BYTES) + len(held) * _float_bytes(subject.module.graph.outputs)


def _float_bytes(values: Iterable[ir.Value]) -> int:
    """What values of known shapes take in float32."""
    shapes = map(static_shape, values)
    return 4 * sum(prod(shape) for shape in shapes if shape is not None)


def fitting(wanted: int, subject: Subject) -> tuple[int, str | None]:
    """Of so many processes those that fit into memory, one at least; and why not all, a sentence."""
    free, each = available_bytes(), process_bytes(subject)
    if free is None or wanted * each <= free:
        return wanted, None
    count = max(1, free // each)
    if count == wanted:
        return wanted, None
    tried = "one plan is" if count == 1 else f"{count} plans are"
    return count, (
        f"{tried} tried at a time, not {wanted}: a process takes up to {each / 1e9:.1f} GB, and "
        f"{free / 1e9:.1f} GB are free"
    )


def available_bytes(system: Path = Path("/")) -> int | None:
    """Memory that new processes can have without swapping; None where the machine does not say.

    On Linux what is available, within the limits of the control group (v2); elsewhere all memory there is.

    Args:
        system: the root of ``/proc`` and ``/sys``.
    """
    found = [*_meminfo(system), *_control_group(system)]
    if found:
        return max(0, min(found))
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _meminfo(system: Path) -> Iterator[int]:
    for line in _lines(system / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _control_group(system: Path) -> Iterator[int]:
    """What is left of the limit of this process's group and of each one around it; cached files make room."""
    own = next((line[3:] for line in _lines(system / "proc/self/cgroup") if line.startswith("0::")), None)
    if own is None:
        return
    root = system / "sys/fs/cgroup"
    group = root / own.lstrip("/")
    for folder in (group, *group.parents):
        limit, used = (_lines(folder / f"memory.{name}") for name in ("max", "current"))
        if limit and used and limit[0] != "max":
            cached = [line for line in _lines(folder / "memory.stat") if line.startswith("inactive_file ")]
            yield int(limit[0]) - int(used[0]) + sum(int(line.split()[1]) for line in cached)
        if folder == root:
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
