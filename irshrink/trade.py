"""What a small arena saved and what it cost: the build beside the one whose operators take no turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from irshrink.backend import Artifact, Backend, Inference, RunResult
from irshrink.console import Progress


def memory_notes(
    backend: Backend,
    built: Artifact,
    run: RunResult | None,
    tests: Sequence[Inference],
    progress: Progress = lambda _: None,
) -> list[str]:
    """One sentence about a build with stripes, none about others.

    Where instructions are counted, the plain plan is built as well and runs one inference.
    """
    stripes = built.program.stripes
    if not stripes:
        return []
    layers = sum(len(stripe.ops) for stripe in stripes)
    text = f"Memory: {layers} layers take turns on rows of their tensors (docs/memory.md)"
    if run is None or run.instructions is None:
        return [f"{text}; the arena takes {built.plan.nbytes:,} bytes."]
    progress("measuring what the small arena costs")
    target = msgspec.structs.replace(built.target, memory="fast", ram_bytes=None, flash_bytes=None)
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        folder = Path(scratch)
        plain = backend.compile(built.program, target, folder, tests[:1], "fast")
        fast = backend.run(folder, target, plain.program, [tests[0].inputs])
    assert fast.instructions is not None
    saved, cost = plain.plan.nbytes - built.plan.nbytes, run.instructions - fast.instructions
    return [
        f"{text}: the arena takes {built.plan.nbytes:,} bytes instead of {plain.plan.nbytes:,} "
        f"({saved:,} fewer), one inference {run.instructions:,} instructions instead of "
        f"{fast.instructions:,} ({100 * cost / fast.instructions:+.1f} %)."
    ]
