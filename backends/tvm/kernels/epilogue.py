"""From accumulators to int8: requantization, fused clipping, fused residual addition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    cast,
    constant,
    inline,
    read,
    scalar,
    scalars,
)
from irshrink.program.ops import Addition, FixedPoint, Requantization

#: How an accumulator is scaled: by a float32, or in fixed point with shifts to the right only, or both ways.
Scaling = Literal["float", "right", "both"]


def scaling_of(form: Requantization | FixedPoint) -> Scaling:
    if isinstance(form, Requantization):
        return "float"
    return "right" if (form.shift <= 0).all() else "both"


@dataclass(frozen=True)
class Epilogue:
    """What happens to a finished accumulator; a hashable argument of kernel generators."""

    clamp: bool = False
    residual: bool = False
    residual_clamp: bool = False
    scaling: Scaling = "float"

    @staticmethod
    def of(requantization: Requantization | FixedPoint, residual: Addition | None = None) -> Epilogue:
        return Epilogue(
            scaling=scaling_of(requantization),
            clamp=(requantization.low, requantization.high) != (-128, 127),
            residual=residual is not None,
            residual_clamp=residual is not None and (residual.low, residual.high) != (-128, 127),
        )

    @property
    def suffix(self) -> str:
        parts = [("_clamp", self.clamp), ("_add", self.residual), ("_addclamp", self.residual_clamp)]
        return SUFFIXES[self.scaling] + "".join(name for name, present in parts if present)

    def parameters(self) -> list[Parameter]:
        """C parameters, in the order of :func:`epilogue_arguments`."""
        names = ["zero_point"]
        if self.clamp:
            names += ["low", "high"]
        residual = [read("other", "int8")] if self.residual else []
        if self.residual:
            names += ["add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point"]
        if self.residual_clamp:
            names += ["add_low", "add_high"]
        return [*scale_parameters(self.scaling), *residual, *scalars(*names)]

    def emit(self, f: Function, given: Sequence[Any], acc: Expr, channel: Expr, y: Buffer, at: Expr) -> None:
        """Store the int8 result of ``acc`` of ``channel`` at ``y[at]``."""
        values = dict(zip([p.name for p in self.parameters()], given, strict=True))
        clip = (values["low"], values["high"]) if self.clamp else ()
        scale = [values[p.name][channel] for p in scale_parameters(self.scaling)]
        q = scaled(self.scaling, acc, scale, values["zero_point"], *clip)
        if self.residual:
            q = self._added(q, values, at)
        f.store(y, at, q)

    def _added(self, q: Expr, values: dict[str, Any], at: Expr) -> Expr:
        a, b = cast("int32", q), cast("int32", values["other"][at])
        total = a * values["add_m_a"] + b * values["add_m_b"] + values["add_offset"]
        added = inline("int32", "irs_shift_half_even", total, values["add_shift"]) + values["add_zero_point"]
        if self.residual_clamp:
            return clamped(added, values["add_low"], values["add_high"])
        return inline("int8", "irs_saturate", added)


#: Of the names of kernels.
SUFFIXES: dict[Scaling, str] = {"float": "", "right": "_q31", "both": "_q31both"}


def scale_parameters(scaling: Scaling) -> list[Parameter]:
    """Arrays of one number per channel: a multiplier, in fixed point a shift too."""
    if scaling == "float":
        return [constant("multiplier", "float32")]
    return [constant("multiplier", "int32"), constant("shift", "int8")]


def scale_scalars(scaling: Scaling) -> list[Parameter]:
    """The same for one number in all."""
    return [scalar(p.name, "float32" if p.dtype == "float32" else "int32") for p in scale_parameters(scaling)]


def scale_arrays(form: Requantization | FixedPoint, channels: int) -> list[NDArray[Any]]:
    """What :func:`scale_parameters` are called with; shifts are to the right where all are."""
    if isinstance(form, Requantization):
        return [np.ascontiguousarray(np.broadcast_to(form.multiplier, (channels,)), np.float32)]
    shift = -form.shift if scaling_of(form) == "right" else form.shift
    arrays = ((form.multiplier, np.int32), (shift, np.int8))
    return [np.ascontiguousarray(np.broadcast_to(array, (channels,)), dtype) for array, dtype in arrays]


def scaled(scaling: Scaling, acc: Expr, scale: Sequence[Expr], zero_point: Expr, *clip: Expr) -> Expr:
    """``acc`` as int8, by a multiplier or by a multiplier and a shift; with ``low, high`` clipped."""
    if scaling == "float":
        return requantized(acc, *scale, zero_point, *clip)
    name = "irs_q31_requantize_right" if scaling == "right" else "irs_q31_requantize"
    multiplier, shift = scale
    q = inline("int8", name, acc, multiplier, cast("int32", shift), zero_point)
    return clamped(q, *clip) if clip else q


def requantized(acc: Expr, multiplier: Expr, zero_point: Expr, *clip: Expr) -> Expr:
    """``acc`` as int8; with ``low, high`` clipped."""
    q = inline("int8", "irs_requantize", acc, multiplier, zero_point)
    return clamped(q, *clip) if clip else q


def clamped(value: Expr, low: Expr, high: Expr) -> Expr:
    """``value`` between two int8 bounds, as int8."""
    return cast("int8", inline("int32", "irs_clamp_i32", cast("int32", value), low, high))


def epilogue_arguments(
    requantization: Requantization | FixedPoint, channels: int, residual: Addition | None = None
) -> list[Argument]:
    """What a kernel with this epilogue is called with."""
    epilogue = Epilogue.of(requantization, residual)
    names = [p.name for p in scale_parameters(epilogue.scaling)]
    arrays = scale_arrays(requantization, channels)
    arguments: list[Argument] = [Constant(n, array) for n, array in zip(names, arrays, strict=True)]
    if residual is not None:
        arguments.append(Input(1))
    arguments.append(requantization.zero_point)
    if epilogue.clamp:
        arguments += [requantization.low, requantization.high]
    if residual is not None:
        (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
        arguments += [ma, mb, -(za * ma + zb * mb), residual.shift, residual.zero_point]
        if epilogue.residual_clamp:
            arguments += [residual.low, residual.high]
    return arguments
