"""Weights of 4 and 2 bits: how flash holds them, and the way of every kernel that does not read them itself.

A code is the weight plus half of its range, an unsigned number of ``bits`` bits. Sixteen bytes hold ``128 /
bits`` weights: byte j has weight j in its lowest bits, weight j + 16 in the next ones, and so on. A vector or
a word of packed bytes, shifted and masked, is then a vector or a word of weights.

Kernels that were made for such weights have forms of their own (:func:`in_bytes`, ``dsp/nibbles.py``). For
all others, :func:`unpacked_first` puts the unpacking in front of the kernel: into its workspace, which the
arena plans, once a call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, KernelCall, Workspace
from irshrink.backends.tvm.tir import constant, filled_first, scalar
from irshrink.console import plural
from irshrink.errors import InternalError
from irshrink.program.ops import Op

#: How weights lie in bytes: each in one, or two of 4 bits in one (:func:`in_bytes`).
Form = Literal["bytes", "sums", "fields"]
#: What forms add to the names of kernels.
SUFFIXES: dict[Form, str] = {"bytes": "", "sums": "_w4", "fields": "_w4f"}
#: Bytes that are unpacked together.
BLOCK = 16
#: What the weights of a kernel are called among its constants.
WEIGHT = "weight"


def codes_of(weights: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Weights as unsigned numbers of ``bits`` bits.

    Raises:
        InternalError: a weight does not fit.
    """
    half = 1 << (bits - 1)
    if weights.size and not -half <= int(weights.min()) <= int(weights.max()) < half:
        raise InternalError(f"weights from {weights.min()} to {weights.max()} do not fit {bits} bits")
    return (weights.astype(np.int16) + half).astype(np.uint8)


def pack(weights: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Flat weights in whole blocks of :data:`BLOCK` bytes; weights of 0 fill the last one."""
    each = 8 // bits
    padded = np.zeros(-(-weights.size // (BLOCK * each)) * BLOCK * each, np.int8)
    padded[: weights.size] = weights
    codes = codes_of(padded, bits).reshape(-1, each, BLOCK)
    shifts = np.arange(each, dtype=np.uint8) * bits
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts[None, :, None], axis=1)
    return packed.astype(np.uint8).reshape(-1)


def in_bytes(packed: NDArray[np.int8]) -> tuple[NDArray[np.int8], Form]:
    """Neighbours A and B of flat weights of 4 bits as one byte each, and what a byte is.

    ``sums``: ``16 * A + B``. Multiplied as they are, such bytes sum ``16 * a + b``; the sign-extended lower
    half of each sums ``b``. So two weights take one load and one more instruction, as two loads do.

    ``fields``: A in the upper half, B in the lower, for a second instruction. It is needed where A is -8
    beside a negative B, which is no byte otherwise.
    """
    first, second = packed.astype(np.int16).reshape(-1, 2).T
    both = 16 * first + second
    if both.min(initial=0) >= -128:
        return both.astype(np.int8), "sums"
    return (16 * first + (second & 15)).astype(np.int8), "fields"


def unpacked_first(call: KernelCall, bits: int) -> KernelCall:
    """``call`` with its weights stored in ``bits`` bits, unless it reads such weights itself.

    They are unpacked into the end of the workspace first; where threads share the call, each has its own.
    """
    if bits == 8 or any(c.bits < 8 for c in call.constants()):
        return call
    at = next(i for i, a in enumerate(call.arguments) if isinstance(a, Constant) and a.role == WEIGHT)
    parameter, given = call.function.parameters[at], call.arguments[at]
    assert isinstance(given, Constant)
    packed = pack(np.ascontiguousarray(given.array).view(np.int8).reshape(-1), bits)
    offset = -(-call.workspace_bytes // BLOCK) * BLOCK
    arguments: list[Argument] = list(call.arguments)
    arguments[at] = Workspace(offset)
    extra = (constant("packed", "uint8"), scalar("packed_bytes"))
    name = f"{call.function.name}_unpack{bits}"
    return replace(
        call,
        function=filled_first(call.function, parameter.name, name, f"irs_packed_{bits}", extra),
        arguments=(*arguments, Constant(WEIGHT, packed, bits), packed.nbytes),
        workspace_bytes=offset + packed.nbytes * (8 // bits),
        assembly=False,
    )


def wider_notes(calls: Iterable[tuple[Op, KernelCall]]) -> list[str]:
    """A sentence for the report where kernels spend more bits on weights than the model does."""
    wider = [op.name for op, call in calls if _stored_bits(call) > getattr(op, "weight_bits", 8)]
    if not wider:
        return []
    several = plural(len(wider), "layer")
    return [f"Kernels for this target hold the 2-bit weights of {several} in 4 bits, from {wider[0]} on."]


def _stored_bits(call: KernelCall) -> int:
    return min((c.bits for c in call.constants()), default=8)
