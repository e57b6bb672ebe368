"""The package from Python: ``irshrink_<prefix>.py``, with ctypes and the shared library alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irshrink import __version__
from irshrink.backends.package.files import render
from irshrink.names import Names
from irshrink.program.program import Port, Program
from irshrink.target import Target

#: Of the arena, see MODEL_ARENA_ALIGNMENT of model.h; a cache line is better still.
_ALIGNMENT = 64


def loader_text(program: Program, arena_bytes: int, target: Target, title: str, names: Names) -> str:
    """The Python file of a model."""
    values = {
        "version": __version__,
        "target": target.name,
        "title": repr(title),
        "names": names,
        "arena_bytes": arena_bytes,
        "alignment": _ALIGNMENT,
        "inputs": _ports(program, program.inputs),
        "outputs": _ports(program, program.outputs),
    }
    return render("loader.py.j2", values)


def _ports(program: Program, ports: Sequence[Port]) -> list[tuple[Any, ...]]:
    """The fields of every port in the order of the loader's own ``Port``."""
    made = []
    for port in ports:
        tensor = program.tensors[port.tensor]
        scale, zero_point = None, 0
        if tensor.quantization is not None:
            scale, zero_point = float(tensor.quantization.scale), int(tensor.quantization.zero_point)
        shape = tuple(int(n) for n in port.shape)
        types = (tensor.dtype, port.element, tensor.nbytes)
        made.append((port.name, shape, *types, scale, zero_point, port.codes))
    return made
