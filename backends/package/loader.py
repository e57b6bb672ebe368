"""The package from Python: ``irshrink_<prefix>.py``, with ctypes and the shared library alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irshrink import __version__
from irshrink.backends.package.files import render
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.program.program import Port, Program
from irshrink.target import Target

#: Of the arena, see MODEL_ARENA_ALIGNMENT of model.h; a cache line is better still.
_ALIGNMENT = 64


def loader_text(
    variants: Sequence[tuple[Program, int]], target: Target, title: str, names: Names = DEFAULT_NAMES
) -> str:
    """The Python file of a model.

    Args:
        variants: program and bytes of the arena for each of ``names.symbols``.
    """
    values = {
        "version": __version__,
        "target": target.name,
        "title": repr(title),
        "names": names,
        "arena_bytes": max(nbytes for _, nbytes in variants),
        "alignment": _ALIGNMENT,
        "threads": target.threads,
        "variants": [
            (symbol, _ports(program, program.inputs), _ports(program, program.outputs))
            for symbol, (program, _) in zip(names.symbols, variants, strict=True)
        ],
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
