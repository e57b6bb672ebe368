"""int8 layers whose weights lie in flash without those that are 0, which are not multiplied either.

The weights of an output channel are a run of entries in the order of its inputs (of its window, channels
last): how many inputs further the next one is, and the weight. Distances take 4 bits or 8, whatever is
smaller in all, weights 4 or 8. Two entries are read together, the distances in front of the weights, two of 4
bits in one byte with the first in its lower half. A tile of pixels shares what is read of an entry.

Where the next weight is further than a distance reaches, a weight of 0 is stored on the way; so is one where
a channel has an odd number. On top come two bytes a channel: how many pairs it has. (The relative indices of
Han et al., *Deep compression*, ICLR 2016, section 2, by rows.)

An entry takes about 4 instructions and 2 for each pixel; dense kernels take half of one to 6 for a product.
So skipping takes fewer where few weights are left, or dense kernels are slow (:data:`PAYS`). Where it takes
more, it is done for the sake of flash alone, if it saves a third of it, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Constant, KernelCall
from irshrink.backends.tvm.kernels.packed import WEIGHT
from irshrink.backends.tvm.kernels.serial import Multiply, convolution_call, dense_call
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    bits_and,
    cast,
    constant,
    inline,
)
from irshrink.console import plural
from irshrink.program.ops import ConvInt8, DenseInt8, Op
from irshrink.program.program import Program
from irshrink.target import Target

#: Pairs that a channel's two bytes can count.
_MOST = 0xFFFF
#: Share of weights left below which skipping takes fewer instructions, by a feature of the target (``""``
#: for all others): of layers of one pixel, and of several (benchmarks/sparsity.py).
PAYS: dict[str, tuple[float, float]] = {
    "mve": (0.02, 0.02),
    "dsp": (0.18, 0.2),
    "thumb1": (0.6, 0.55),
    "": (0.45, 0.65),
}
#: Share of a dense layer's bytes that slower kernels may take.
_WORTH = 2 / 3


@dataclass(frozen=True)
class Entries:
    """How an entry is stored; a hashable argument of the generator.

    Attributes:
        distance: bits of the distance from one weight to the next, 4 or 8.
        bits: of a weight, 4 or 8.
    """

    distance: int
    bits: int

    doc: ClassVar[str] = "Layer of int8 whose weights are those that are not 0."
    state: ClassVar[int] = 2  # the next entry, and the input of the last one

    @property
    def nbytes(self) -> int:
        """Of a pair."""
        return (self.distance + self.bits) // 4

    @property
    def name(self) -> str:
        return f"sparse_s8_w{self.bits}d{self.distance}"

    def parameters(self) -> Sequence[Parameter]:
        return constant("weight", "uint8"), constant("counts", "uint16")

    def sizes(self) -> Sequence[str]:
        return ()

    def begin(self, f: Function, given: Sequence[Any], state: Buffer) -> None:
        f.store(state, 0, 0)

    def channel(
        self, f: Function, given: Sequence[Any], state: Buffer, channel: Expr, start: Expr, multiply: Multiply
    ) -> None:
        weight, counts = given
        f.store(state, 1, start)
        first = f.bind("first", state[0])
        with f.loop("e", cast("int32", counts[channel])) as e:
            for gap, number in _pair(f, weight, (first + e) * self.nbytes, self):
                place = f.bind("place", state[1] + gap)
                f.store(state, 1, place)
                multiply(place, number)
        f.store(state, 0, first + cast("int32", counts[channel]))


@dataclass(frozen=True, eq=False)
class Stream:
    """Attributes:
    form: of the entries.
    pairs: their bytes, [pairs, form.nbytes].
    counts: pairs of every channel.
    """

    form: Entries
    pairs: NDArray[np.uint8]
    counts: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.pairs.nbytes + 2 * len(self.counts)


def select(op: Op, program: Program, target: Target) -> KernelCall | None:
    """The kernel of a sparse layer; None where another one has to do it, or takes fewer bytes."""
    if not isinstance(op, ConvInt8 | DenseInt8) or not op.sparse or target.has("simd"):
        return None
    if isinstance(op, ConvInt8) and op.depthwise:
        return None
    bits = 8 if op.weight_bits == 8 else 4
    rows = op.weight.reshape(len(op.weight), -1)
    stream = min((packed(rows, Entries(distance, bits)) for distance in (4, 8)), key=lambda s: s.nbytes)
    most = dense_bytes(op) * (1.0 if pays(op, program, target) else _WORTH)
    if stream.counts.max(initial=0) > _MOST or stream.nbytes >= most:
        return None
    if isinstance(op, ConvInt8):
        return convolution_call(op, program, target, stream.form, _constants(stream), ())
    return dense_call(op, program, stream.form, _constants(stream), ())


def dense_bytes(op: ConvInt8 | DenseInt8) -> int:
    """What the weights take with their zeros."""
    return -(-op.weight.size * op.weight_bits // 8)


def pays(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> bool:
    """Whether skipping zeros takes fewer instructions than multiplying by them."""
    return bool(np.count_nonzero(op.weight) < limit(op, program, target) * op.weight.size)


def limit(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> float:
    """The share of weights left below which :func:`pays`."""
    feature = next((name for name in PAYS if name and target.has(name)), "")
    several = program.tensors[op.output].elements > len(op.weight)
    return PAYS[feature][several]


def packed(rows: NDArray[np.int8], form: Entries) -> Stream:
    """The weights of all channels [channel, inputs]; the first distance counts from the first input."""
    longest = (1 << form.distance) - 1
    channel, place = np.nonzero(rows)
    first = np.diff(channel, prepend=-1) != 0
    distance = np.where(first, place, np.diff(place, prepend=0))
    before = np.maximum(0, -(-distance // longest) - 1)  # zeros on the way to each weight
    counts = np.bincount(np.repeat(channel, before + 1), minlength=len(rows))
    pairs = -(-counts // 2)
    gaps, weights = np.zeros((2, 2 * int(pairs.sum())), np.int64)
    number = np.cumsum(before + 1) - 1
    number += np.append(0, np.cumsum(2 * pairs - counts))[channel]  # those that fill up the channels before
    for further in range(int(before.max(initial=0))):
        gaps[(number - 1 - further)[before > further]] = longest
    gaps[number], weights[number] = distance - before * longest, rows[channel, place]
    parts = [*_halved(gaps, form.distance), *_halved(weights & (1 << form.bits) - 1, form.bits)]
    return Stream(form, np.stack(parts, axis=-1).astype(np.uint8), pairs)


def _halved(numbers: NDArray[np.int64], bits: int) -> list[NDArray[np.int64]]:
    """Columns of bytes that hold two numbers each, or one."""
    first, second = numbers[::2], numbers[1::2]
    return [first | second << 4] if bits == 4 else [first, second]


def _pair(f: Function, weight: Buffer, at: Expr, form: Entries) -> list[tuple[Expr, Expr]]:
    """Distances and weights of two entries, int32."""
    if form.distance == 4:
        both = f.bind("both", cast("int32", weight[at]))
        gaps = [bits_and(both, 15), both >> 4]
    else:
        gaps = [cast("int32", weight[at + n]) for n in range(2)]
    at = at + len(gaps) // (8 // form.distance)
    if form.bits == 4:
        two = f.bind("two", cast("int32", cast("int8", weight[at])))
        return [(gaps[0], inline("int32", "irs_low_nibble", two)), (gaps[1], two >> 4)]
    return [(gap, cast("int32", cast("int8", weight[at + n]))) for n, gap in enumerate(gaps)]


def _constants(stream: Stream) -> list[Constant]:
    bits = stream.form.bits
    counts = stream.counts.astype(np.uint16)
    return [Constant("weight", stream.pairs.reshape(-1), bits), Constant("counts", counts, bits)]


def sparse_notes(calls: Iterable[tuple[Op, KernelCall]], program: Program, target: Target) -> list[str]:
    """Sentences for the report: sparse layers that are dense after all, or slower for being sparse."""
    layers = [
        (op, call)
        for op, call in calls
        if isinstance(op, ConvInt8 | DenseInt8)
        and op.sparse
        and not call.function.name.startswith("huffman_")
    ]
    skipping = [(op, call) for op, call in layers if call.function.name.startswith("sparse_")]
    notes = []
    dense = [op.name for op, call in layers if (op, call) not in skipping]
    if dense:
        notes.append(
            f"The weights of {plural(len(dense), 'layer')}, from {dense[0]} on, lie in memory with their "
            f"zeros: leaving them out does not pay on {target.name}."
        )
    slower = [(op, call) for op, call in skipping if not pays(op, program, target)]
    if slower:
        least = min(limit(op, program, target) for op, _ in slower)
        bytes_now = sum(c.array.nbytes for _, call in slower for c in call.constants() if c.role == WEIGHT)
        bytes_dense = sum(dense_bytes(op) for op, _ in slower)
        notes.append(
            f"{plural(len(slower), 'layer')}, from {slower[0][0].name} on, "
            f"{'saves' if len(slower) == 1 else 'save'} flash without zeros ({bytes_now:,} bytes of weights "
            f"instead of {bytes_dense:,}), but not time: on {target.name} skipping takes fewer instructions "
            f"where less than {100 * least:.0f} % of the weights are left."
        )
    return notes
