"""Running a finished build on a user's data and comparing every byte with the reference: ``irshrink run``."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.artifact import Build, load_build
from irshrink.backend import RunResult
from irshrink.console import Progress, count, size, table
from irshrink.errors import InternalError, SamplesError
from irshrink.files import write_bytes
from irshrink.ports import Array, encode_inputs
from irshrink.program.program import Program
from irshrink.report.report import REPORT_NAME


def execute(
    folder: Path,
    data: Path,
    *,
    output: Path | None = None,
    samples: int | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Run a build and compare it with the NumPy reference.

    Args:
        folder: a build.
        data: inputs by name, float32 as the model takes them or int8 as the build does.
        output: where to write the outputs (``.npz``, by output name, first axis the samples), as stored.
        samples: how many, all when not given.

    Returns:
        Plain data: the counts that ``render`` shows.

    Raises:
        UserError: the folder is no build, or the data does not fit.
        ToolError: the build crashed or overran its memory.
        InternalError: a byte differs from the reference.
    """
    build = load_build(folder)
    program: Program = build.program
    feeds = read_feeds(data, program, samples)
    progress(f"{len(feeds)} inputs")
    inputs = [encode_inputs(program, one) for one in feeds]
    result = build.run(inputs)
    progress("reference")
    expected = build.reference(inputs)
    compared, mismatched = mismatches(expected, result.outputs)
    if output is not None:
        write_outputs(output, program, result.outputs)
    if mismatched:
        raise InternalError(
            f"{folder}: {mismatched} of {compared} output bytes differ from the reference, a bug in irshrink."
        )
    return _facts(build, folder, result, len(inputs), compared)


def render(facts: dict[str, Any]) -> str:
    """The facts as a table for the terminal."""
    rows = [
        ("checked", f"{facts['inputs']} inputs", f"{count(facts['compared_bytes'])} output bytes, all equal"),
        ("arena", size(facts["arena_bytes"]), ""),
    ]
    if not facts["native"]:
        rows.append(("stack", size(facts["stack_bytes"]), "high-water mark"))
        rows.append(("instructions", count(facts["instructions"]), "one inference, exact"))
    return table(rows)


def read_feeds(data: Path, program: Program, limit: int | None) -> list[dict[str, Array]]:
    """Inputs of every inference by name.

    Raises:
        SamplesError: the file is missing or damaged, or does not fit the program.
    """
    if not data.is_file():
        raise SamplesError(f"{data}: no such file. Give inputs as .npz.")
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as e:
        raise SamplesError(f"{data}: not a readable .npz file: {e}") from e
    for port in program.inputs:
        if port.name not in arrays:
            raise SamplesError(f"{data}: no array for the input '{port.name}'.")
        if arrays[port.name].ndim == 0 or arrays[port.name].dtype.kind == "O":
            raise SamplesError(f"{data}: array '{port.name}' has no samples along its first axis.")
    counts = {port.name: len(arrays[port.name]) for port in program.inputs}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise SamplesError(f"{data}: arrays need the same number of samples, at least one; got {counts}.")
    total = min(next(iter(counts.values())), limit or 2**63)
    return [{name: arrays[name][i] for name in counts} for i in range(total)]


def mismatches(expected: Sequence[Sequence[Array]], outputs: Sequence[Sequence[Array]]) -> tuple[int, int]:
    """How many output bytes there are, and how many of them differ."""
    compared = mismatched = 0
    for wanted, given in zip(expected, outputs, strict=True):
        for a, b in zip(wanted, given, strict=True):
            left, right = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
            compared += left.size
            mismatched += int((left != right).sum())
    return compared, mismatched


def write_outputs(path: Path, program: Program, outputs: Sequence[Sequence[Array]]) -> None:
    """All outputs as ``.npz``, stored types, first axis the samples.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        port.name: np.stack([np.asarray(one[i]).reshape(port.shape) for one in outputs])
        for i, port in enumerate(program.outputs)
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def _facts(build: Build, folder: Path, result: RunResult, inputs: int, compared: int) -> dict[str, Any]:
    report = json.loads((folder / REPORT_NAME).read_text("utf-8"))
    return {
        "target": report["target"],
        "native": build.target.emulation is None,
        "inputs": inputs,
        "compared_bytes": compared,
        "mismatched_bytes": 0,
        "instructions": result.instructions,
        "stack_bytes": result.stack_bytes,
        "arena_bytes": report["size"]["arena_bytes"],
    }
