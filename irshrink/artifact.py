"""A finished build on disk, ready to run: ``load_build("build").run(...)``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backend import Backend, Counter, RunResult, Values
from irshrink.errors import UserError
from irshrink.files import sha256
from irshrink.module import load_module
from irshrink.names import DEFAULT_NAMES, DEFAULT_PREFIX, Names
from irshrink.ports import decode, encode_inputs
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import backend_for
from irshrink.target import Target

#: The model as it was compiled: cleaned up and quantized, standard ONNX.
MODEL_NAME = "model.onnx"


@dataclass(frozen=True)
class Build:
    """A build, the program it computes and the backend that runs it."""

    folder: Path
    target: Target
    program: Program
    backend: Backend
    names: Names = DEFAULT_NAMES
    threads: int = 1

    def __call__(self, feeds: Mapping[str, NDArray[Any]], *, stored: bool = False) -> dict[str, NDArray[Any]]:
        """One inference: arrays by input name in, arrays by output name out, both numbers of the model.

        Args:
            stored: the inputs hold stored values, quantized as the build takes them.

        Raises:
            SamplesError: see :func:`irshrink.ports.encode_inputs`.
        """
        outputs = self.run([encode_inputs(self.program, feeds, stored=stored)]).outputs[0]
        ports = self.program.outputs
        return {p.name: decode(self.program, p, v) for p, v in zip(ports, outputs, strict=True)}

    def run(self, inputs: Sequence[Values], progress: Counter = lambda done: None) -> RunResult:
        """Several inferences on stored values (see :func:`irshrink.ports.encode_inputs`)."""
        return self.backend.run(
            self.folder,
            self.target,
            self.program,
            inputs,
            progress,
            names=self.names,
            threads=self.threads,
        )

    def reference(
        self, inputs: Sequence[Values], progress: Counter = lambda done: None
    ) -> list[list[NDArray[np.generic]]]:
        """The same by the NumPy reference."""
        outputs = []
        for done, x in enumerate(inputs):
            progress(done)
            outputs.append(list(run_program(self.program, list(x))))
        return outputs


def load_build(folder: Path | str, *, threads: int = 1) -> Build:
    """Open the folder that ``irshrink compile`` wrote.

    Args:
        threads: how many an inference runs on; the outputs do not depend on it.

    Raises:
        UserError: it is no build, or one of another version, or one for fewer threads.
    """
    from irshrink.report.report import REPORT_NAME

    folder = Path(folder)
    if not (folder / REPORT_NAME).is_file():
        raise UserError(
            f"{folder}: not a folder that `irshrink compile` wrote (no {REPORT_NAME}). Give its --out folder."
        )
    try:
        report = json.loads((folder / REPORT_NAME).read_text("utf-8"))
        target = _target(report)
        io = report["recipe"].get("io", "quantized")
        requantize = report["recipe"].get("requantize", "float32")
        names = Names(report["recipe"].get("prefix", DEFAULT_PREFIX))
        digest = report["model"]["compressed_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder}: its {REPORT_NAME} is damaged or of another version of irshrink. Compile again."
        ) from e
    model = folder / MODEL_NAME
    if not model.is_file() or sha256(model) != digest:
        raise UserError(f"{model}: is not the model that was compiled there. Compile again.")
    if not 1 <= threads <= target.threads:
        built = f"at most {target.threads} threads" if target.threads > 1 else "one thread"
        raise UserError(f"{folder}: was compiled for {built}, not {threads}. Compile again with --threads N.")
    program = lower(load_module(model), io=io, requantize=requantize, fused=target.has("fma"))
    return Build(folder, target, program, backend_for(target), names, threads)


def _target(report: Mapping[str, Any]) -> Target:
    """The target as it was then: the report carries what the user's own TOML file said."""
    import msgspec

    return msgspec.convert(report["hardware"]["target"], Target)
