"""A finished build on disk, ready to run: ``load_build("build").run(...)``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backend import Backend, Counter, RunResult, Values
from irshrink.errors import SamplesError, UserError
from irshrink.files import sha256
from irshrink.module import load_module
from irshrink.names import DEFAULT_NAMES, DEFAULT_PREFIX, Names
from irshrink.ports import decode, encode_inputs
from irshrink.program.lower import lower_for
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import backend_for
from irshrink.target import Target

#: The model as it was compiled: cleaned up and quantized, standard ONNX.
MODEL_NAME = "model.onnx"


def model_name(variant: str | None) -> str:
    """:data:`MODEL_NAME`, or what the file of a variant of shapes is called."""
    return MODEL_NAME if variant is None else f"model_{variant}.onnx"


@dataclass(frozen=True)
class Build:
    """A build, the program it computes and the backend that runs it.

    Attributes:
        names: in its C.
        variant: which of those in ``names``.
        variants: all variants of shapes in the same folder; empty where there is one set of shapes.
    """

    folder: Path
    target: Target
    program: Program
    backend: Backend
    names: Names = DEFAULT_NAMES
    variant: int = 0
    variants: tuple[Build, ...] = ()
    threads: int = 1

    def __call__(self, feeds: Mapping[str, NDArray[Any]], *, stored: bool = False) -> dict[str, NDArray[Any]]:
        """One inference: arrays by input name in, arrays by output name out, both numbers of the model.

        Of several variants the one runs that the arrays fit.

        Args:
            stored: the inputs hold stored values, quantized as the build takes them.

        Raises:
            SamplesError: see :func:`irshrink.ports.encode_inputs`.
        """
        build = self.fitting({name: np.shape(array) for name, array in feeds.items()})
        outputs = build.run([encode_inputs(build.program, feeds, stored=stored)]).outputs[0]
        ports = build.program.outputs
        return {p.name: decode(build.program, p, v) for p, v in zip(ports, outputs, strict=True)}

    def fitting(self, shapes: Mapping[str, tuple[int, ...]]) -> Build:
        """The variant that takes arrays of these shapes, by input name; a leading 1 may be left out.

        Raises:
            SamplesError: there are several variants, and none does.
        """
        if not self.variants:
            return self
        for build in self.variants:
            ports = build.program.inputs
            if all(_takes(p.shape, shapes.get(p.name)) for p in ports):
                return build
        given = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
        raise SamplesError(f"no variant takes {given}. There are: {self.shown_variants()}.")

    def shown_variants(self) -> str:
        """The variants and the shapes of their inputs, for messages."""
        shown = [
            f"{name} ({', '.join(f'{p.name} {list(p.shape)}' for p in build.program.inputs)})"
            for name, build in zip(self.names.variants, self.variants, strict=True)
        ]
        return ", ".join(shown)

    def run(self, inputs: Sequence[Values], progress: Counter = lambda done: None) -> RunResult:
        """Several inferences on stored values (see :func:`irshrink.ports.encode_inputs`)."""
        return self.backend.run(
            self.folder,
            self.target,
            self.program,
            inputs,
            progress,
            names=self.names,
            variant=self.variant,
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
        models = {one["name"]: one["compressed_sha256"] for one in report["variants"]}
        names = Names(report["recipe"].get("prefix", DEFAULT_PREFIX), tuple(models))
        digests = models or {None: report["model"]["compressed_sha256"]}
        recipe = dict(report["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder}: its {REPORT_NAME} is damaged or of another version of irshrink. Compile again."
        ) from e
    if not 1 <= threads <= target.threads:
        built = f"at most {target.threads} threads" if target.threads > 1 else "one thread"
        raise UserError(f"{folder}: was compiled for {built}, not {threads}. Compile again with --threads N.")
    programs = [
        _program(folder / model_name(name), digest, target, recipe) for name, digest in digests.items()
    ]
    backend = backend_for(target)
    builds = tuple(
        Build(folder, target, p, backend, names, i, threads=threads) for i, p in enumerate(programs)
    )
    return replace(builds[0], variants=builds if models else ())


def _takes(shape: tuple[int, ...], given: tuple[int, ...] | None) -> bool:
    return given == shape or (shape[:1] == (1,) and given == shape[1:])


def _program(model: Path, digest: str, target: Target, recipe: Mapping[str, Any]) -> Program:
    if not model.is_file() or sha256(model) != digest:
        raise UserError(f"{model}: is not the model that was compiled there. Compile again.")
    io, requantize = recipe.get("io", "quantized"), recipe.get("requantize", "float32")
    return lower_for(load_module(model), target, io=io, requantize=requantize)


def _target(report: Mapping[str, Any]) -> Target:
    """The target as it was then: the report carries what the user's own TOML file said."""
    import msgspec

    return msgspec.convert(report["hardware"]["target"], Target)
