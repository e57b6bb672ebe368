"""The key of a tuned schedule: everything about an operator that decides which instructions compute it.

That is its kind, the shapes and types of its tensors and constants, its window, and the form of what is fused
into it. Names, weights and zero points are left out, so that layers of other models find what was tuned for
one::

    ConvInt8 int8[1x25x5x64] -> int8[1x25x5x64] weight=64x1x1x64 bias=64 kernel=1x1 groups=1 clamp ..
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from irshrink.program.ops import Op
from irshrink.program.program import Program

#: Numbers that constants of the code hold; they select no instructions.
_VALUES = frozenset(
    {"zero_point", "zero_points", "input_zero_point", "inverse_scale", "low", "high", "shift", "multipliers"}
)
_NAMES = frozenset(field.name for field in dataclasses.fields(Op))
_INT8 = (-128, 127)
#: Fields that are named only where they are not this, which nearly all layers are.
_USUAL = {"weight_bits": 8, "fourier": 0}


def workload(op: Op, program: Program) -> str:
    """The key of ``op``; equal for operators that equal kernels compute at equal cost."""
    inputs = " ".join(_tensor(name, program) for name in op.inputs)
    return " ".join([type(op).__name__, inputs, "->", _tensor(op.output, program), *_fields(op)])


def _tensor(name: str, program: Program) -> str:
    tensor = program.tensors[name]
    constant = "constant " if name in program.constants else ""
    return f"{constant}{tensor.dtype}[{_dims(tensor.shape)}]"


def _fields(record: Any) -> Iterator[str]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name not in _NAMES and (field.name not in _USUAL or value != _USUAL[field.name]):
            yield from _field(field.name, value)
    if hasattr(record, "low") and (record.low, record.high) != _INT8:
        yield "clamp"


def _field(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, np.ndarray):
        # shifts to the left take instructions of their own
        left = "+left" if name == "shift" and (value > 0).any() else ""
        yield f"{name}={_dims(value.shape) or 'scalar'}{left}"
    elif dataclasses.is_dataclass(value):
        inside = list(_fields(value))
        yield f"{name}({' '.join(inside)})" if name != "window" else " ".join(inside)
    elif value is None or name in _VALUES or isinstance(value, dict):
        return
    elif isinstance(value, bool):
        yield from [name] if value else []
    elif isinstance(value, tuple):
        yield f"{name}={_dims(value)}"
    else:
        yield f"{name}={value}"


def _dims(sizes: tuple[Any, ...]) -> str:
    return "x".join(map(str, sizes))
