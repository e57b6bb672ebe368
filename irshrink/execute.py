"""Running a finished build on a user's data and comparing every byte with the reference: ``irshrink run``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.artifact import Build, load_build
from irshrink.backend import Values
from irshrink.console import Progress, count, counted, plural, size, table
from irshrink.declared import reading_of
from irshrink.errors import InternalError, SamplesError
from irshrink.files import write_bytes
from irshrink.ports import Array, encode_inputs, stored_type
from irshrink.program.program import Program
from irshrink.report.report import REPORT_NAME
from irshrink.samples import InputSpec, Samples, load_samples
from irshrink.samples.npz import read_headers

#: Inferences at a time: bounds memory; starting an emulator and counting cost as much as some of them.
_CHUNK = 256


def execute(
    folder: Path,
    data: Path,
    *,
    output: Path | None = None,
    samples: int | None = None,
    stored: bool = False,
    threads: int = 1,
    declared: Mapping[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Run a build and compare it with the NumPy reference, some inferences at a time.

    Args:
        folder: a build.
        data: a file or folder as :func:`irshrink.samples.load_samples` reads it, of what the model takes.
        output: where to write the outputs (``.npz``, by output name, first axis the samples), as stored.
        samples: how many, all when not given.
        stored: the arrays of ``data`` are quantized already, as the build stores them.
        threads: how many an inference runs on.
        declared: how the data is to be read, by table as in a recipe (``images``, ``csv``, ``audio``), in
            place of the build's recipe.

    Returns:
        Plain data: the counts that ``render`` shows.

    Raises:
        UserError: the folder is no build, or the data does not fit.
        ToolError: the build crashed or overran its memory.
        InternalError: a byte differs from the reference.
    """
    build = load_build(folder, threads=threads)
    report = json.loads((folder / REPORT_NAME).read_text("utf-8"))
    build, chosen = _fitting(build, data, {**report["recipe"], **(declared or {})}, stored)
    chosen = chosen if samples is None else chosen.head(samples)
    tally = _Tally()
    for inputs in _chunks(encode_inputs(build.program, feeds, stored=stored) for feeds in chosen.feeds()):
        _run(build, inputs, tally, len(chosen), keep=output is not None, progress=progress)
    if output is not None:
        write_outputs(output, build.program, tally.outputs)
    if tally.mismatched:
        raise InternalError(
            f"{folder}: {tally.mismatched} of {tally.compared} output bytes differ from the reference."
        )
    return {
        "target": report["target"],
        "native": tally.native,
        "inputs": tally.inputs,
        "compared_bytes": tally.compared,
        "mismatched_bytes": tally.mismatched,
        "instructions": tally.instructions,
        "stack_bytes": tally.stack_bytes,
        "arena_bytes": (report["variants"] or [report["size"]])[build.variant]["arena_bytes"],
        "variant": build.names.variants[build.variant] if build.names.variants else None,
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as a table for the terminal."""
    compared = f"{plural(facts['compared_bytes'], 'output byte')}, all equal the reference"
    rows = [("variant", facts["variant"], "")] if facts["variant"] else []
    rows += [
        ("checked", plural(facts["inputs"], "input"), compared),
        ("arena", size(facts["arena_bytes"]), ""),
    ]
    if not facts["native"]:
        rows.append(("stack", size(facts["stack_bytes"]), "high-water mark"))
        what = "the first input, exact" if facts["instructions"] else "not counted"
        rows.append(("instructions", count(facts["instructions"]), what))
    return table(rows)


def _fitting(build: Build, data: Path, declared: Mapping[str, Any], stored: bool) -> tuple[Build, Samples]:
    """The variant that takes the data, and the data.

    Raises:
        SamplesError: the data is damaged, or fits no variant.
    """
    refusals = []
    for variant in build.variants or (build,):
        try:
            return variant, open_inputs(data, variant.program, declared, stored=stored)
        except SamplesError as e:
            if not build.variants:
                raise
            refusals.append(f"Variant {build.names.variants[variant.variant]}: {e}")
    raise SamplesError("the data fits no variant of the build. " + " ".join(refusals))


def open_inputs(
    data: Path, program: Program, declared: Mapping[str, Any] | None, *, stored: bool = False
) -> Samples:
    """Inputs of a program, checked: arrays of what the graph takes or, if so said, of what the build stores.

    Args:
        declared: how the data is to be read, by table as in a recipe; other keys are left alone.

    Raises:
        SamplesError: the file is missing or damaged, or does not fit the program.
    """
    if stored and (data.is_dir() or data.suffix.lower() in (".csv", ".tsv")):
        kind = "folder" if data.is_dir() else "table"
        raise SamplesError(f"{data}: --stored is about arrays of an .npz, and this is a {kind}.")
    if stored:
        specs = _stored_specs(data, program)
    else:
        specs = [InputSpec(p.name, p.shape, np.dtype(p.element), p.codes) for p in program.inputs]
    reading = reading_of(declared or {}, "how data is read")
    return load_samples(data, specs, **reading, role="input")


def _stored_specs(data: Path, program: Program) -> list[InputSpec]:
    """
    Raises:
        SamplesError: an array is not of the type that the build stores.
    """
    headers = read_headers(data) if data.is_file() else {}
    specs = []
    for port in program.inputs:
        given = headers[port.name].dtype if port.name in headers else None
        wanted = stored_type(program, port, given)
        if given is not None and given != wanted:
            raise SamplesError(
                f"{data}: '{port.name}' is {given}, the build stores {wanted}. Leave --stored out."
            )
        specs.append(InputSpec(port.name, port.shape, wanted))
    return specs


def mismatches(expected: Sequence[Values], outputs: Sequence[Values]) -> tuple[int, int]:
    """How many output bytes there are, and how many of them differ."""
    compared = mismatched = 0
    for wanted, given in zip(expected, outputs, strict=True):
        for a, b in zip(wanted, given, strict=True):
            left, right = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
            compared += left.size
            mismatched += int((left != right).sum())
    return compared, mismatched


def write_outputs(path: Path, program: Program, outputs: Sequence[Values]) -> None:
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


@dataclass
class _Tally:
    """What has been run so far. Instructions are those of the first inference, stack is the most of all."""

    inputs: int = 0
    compared: int = 0
    mismatched: int = 0
    instructions: int | None = None
    stack_bytes: int | None = None
    native: bool = True
    outputs: list[Values] = field(default_factory=list)


def _run(
    build: Build, inputs: list[list[Array]], tally: _Tally, total: int, *, keep: bool, progress: Progress
) -> None:
    run, reference = counted(progress, "inference"), counted(progress, "reference")
    result = build.run(inputs, lambda done: run(tally.inputs + done, total))
    expected = build.reference(inputs, lambda done: reference(tally.inputs + done, total))
    compared, mismatched = mismatches(expected, result.outputs)
    if tally.inputs == 0:
        tally.instructions, tally.native = result.instructions, result.native
    tally.inputs += len(inputs)
    tally.compared += compared
    tally.mismatched += mismatched
    if result.stack_bytes is not None:
        tally.stack_bytes = max(result.stack_bytes, tally.stack_bytes or 0)
    tally.outputs += result.outputs if keep else []


def _chunks(inputs: Iterator[list[Array]]) -> Iterator[list[list[Array]]]:
    while chunk := list(islice(inputs, _CHUNK)):
        yield chunk
