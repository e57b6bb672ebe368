"""int8 layers whose weights lie in flash in a Huffman code, read bit by bit as they are multiplied.

Two forms, the smaller is taken for each layer. Of *distances*, an entry is a weight that is not 0 and how
much further the next one is, counted through all channels: what passes the end of one goes on in the next, so
that no channel has to be counted. The symbol 0 says that it is :attr:`Coded.reach` further, and another
symbol follows. Of *all weights*, an entry is a weight. Both are coded apart, each layer has its own codes
(:mod:`~irshrink.backends.tvm.kernels.huffman_code`). Of a weight of 8 bits the upper five are a symbol; the
lower three behind it are as good as random. (Han et al., *Deep compression*, ICLR 2016, section 4.)

An entry takes a load of a word from any address and one of each table: about 20 instructions, where dense
kernels take half of one to 6 for a product. It is done for the sake of flash alone (:data:`_WORTH`), and
where few tiles of pixels read the stream again (:data:`_TILES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels import sparse
from irshrink.backends.tvm.kernels.call import Constant, KernelCall
from irshrink.backends.tvm.kernels.huffman_code import SYMBOLS, Code, best_code, bit_stream
from irshrink.backends.tvm.kernels.packed import WEIGHT
from irshrink.backends.tvm.kernels.serial import (
    Multiply,
    convolution_call,
    convolution_tile,
    dense_call,
    dense_tile,
)
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    bits_and,
    cast,
    constant,
    i32,
    inline,
)
from irshrink.console import plural
from irshrink.program.ops import ConvInt8, DenseInt8, Op
from irshrink.program.program import Program
from irshrink.target import Target

#: Share of the bytes of the smallest other kernel that a code may take.
_WORTH = 0.97
#: Tiles of pixels up to which weights are decoded for each.
_TILES = 64
#: Distances above which symbols are chained.
_REACHES = (7, 15, 31)
#: Bits of a weight of 8 that follow its symbol as they are.
_RAW = 3
#: Bytes that are read behind the last bit.
_SPARE = 3

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Reader:
    """How kernels read a stream; a hashable argument of the generator.

    Attributes:
        distances: whether weights of 0 are left out.
        raw: bits that follow the symbol of a weight.
    """

    distances: bool
    raw: int

    doc: ClassVar[str] = "Layer of int8 whose weights are a stream in a Huffman code."

    @property
    def name(self) -> str:
        return f"huffman_s8_w{5 + self.raw}{'d' if self.distances else ''}"

    @property
    def state(self) -> int:
        """The next bit; and how far the next weight is, and the last entry of the table of distances."""
        return 3 if self.distances else 1

    def parameters(self) -> Sequence[Parameter]:
        tables = [constant("values", "int8")]
        if self.distances:
            tables.append(constant("distances", "uint8"))
        return constant("weight", "int8"), *tables

    def sizes(self) -> Sequence[str]:
        return ("depth", "value_mask", *(("first", "reach", "distance_mask") if self.distances else ()))

    def begin(self, f: Function, given: Sequence[Any], state: Buffer) -> None:
        f.store(state, 0, 0)
        if self.distances:
            f.store(state, 1, given[5])

    def channel(
        self, f: Function, given: Sequence[Any], state: Buffer, channel: Expr, start: Expr, multiply: Multiply
    ) -> None:
        if self.distances:
            self._distances(f, given, state, start, multiply)
            return
        weight, values, depth, value_mask = given
        with f.loop("e", depth) as e:
            used, number, _ = self._weight(f, weight, values, value_mask, state)
            f.store(state, 0, state[i32(0)] + used)
            multiply(start + e, number)

    def _distances(
        self, f: Function, given: Sequence[Any], state: Buffer, start: Expr, multiply: Multiply
    ) -> None:
        weight, values, distances, depth, value_mask, _, reach, distance_mask = given
        with f.repeat_while(state[i32(1)] < depth):
            used, number, rest = self._weight(f, weight, values, value_mask, state)
            multiply(start + state[i32(1)], number)
            f.store(state, 2, cast("int32", distances[bits_and(rest, distance_mask)]))
            f.store(state, 0, state[i32(0)] + used + bits_and(state[i32(2)], 7))
            with f.repeat_while(state[i32(2)] < 8):
                f.store(state, 1, state[i32(1)] + reach)
                more = _bits(weight, state[i32(0)])
                f.store(state, 2, cast("int32", distances[bits_and(more, distance_mask)]))
                f.store(state, 0, state[i32(0)] + bits_and(state[i32(2)], 7))
            f.store(state, 1, state[i32(1)] + (state[i32(2)] >> 3))
        f.store(state, 1, state[i32(1)] - depth)

    def _weight(
        self, f: Function, weight: Buffer, values: Buffer, mask: Expr, state: Buffer
    ) -> tuple[Expr, Expr, Expr]:
        """Bits of the next weight, the weight, and the bits behind it."""
        word = f.bind("word", _bits(weight, state[i32(0)]))
        value = f.bind("value", cast("int32", values[bits_and(word, mask)]))
        length = f.bind("length", bits_and(value, 7))
        rest = f.bind("rest", word >> length)
        if not self.raw:
            return length, value >> 3, rest
        low = (1 << self.raw) - 1
        return length + self.raw, (value >> 3) * (1 << self.raw) + bits_and(rest, low), rest >> self.raw


def _bits(weight: Buffer, at: Expr) -> Expr:
    """25 bits or more of the stream from here on; what lies above them says nothing."""
    return inline("int32", "irs_load32", address(weight, at >> 3)) >> bits_and(at, 7)


@dataclass(frozen=True, eq=False)
class Coded:
    """Weights in a form, before they are written.

    Attributes:
        symbols: of the weights that are entries.
        raw: the bits behind each, ``raw_bits`` of them.
        values: their code.
        gaps: symbols of distances, -1 where there is none, [entries, symbols in a row]; None without.
        distances: their code.
        first: place of the first weight.
        reach: what the symbol 0 of a distance is.
        nbytes: stream and tables.
    """

    symbols: Integers
    raw: Integers
    raw_bits: int
    values: Code
    nbytes: int
    gaps: Integers | None = None
    distances: Code | None = None
    first: int = 0
    reach: int = 0

    @property
    def reader(self) -> Reader:
        return Reader(self.distances is not None, self.raw_bits)

    def constants(self, bits: int) -> list[Constant]:
        """What the kernel reads; ``bits`` are those of a weight."""
        found = [Constant(WEIGHT, self._stream().view(np.int8), bits)]
        found.append(Constant("values", self.values.table().view(np.int8), bits))
        if self.distances is not None:
            found.append(Constant("distances", self.distances.table(), bits))
        return found

    def sizes(self, depth: int) -> list[int]:
        """What the kernel is told."""
        numbers = [depth, self.values.table_bytes - 1]
        if self.distances is not None:
            numbers += [self.first, self.reach, self.distances.table_bytes - 1]
        return numbers

    def _stream(self) -> NDArray[np.uint8]:
        fields = [(self.values.words()[self.symbols], self.values.lengths[self.symbols])]
        if self.raw_bits:
            fields.append((self.raw, np.full(len(self.raw), self.raw_bits)))
        if self.gaps is not None and self.distances is not None:
            words, lengths = np.append(self.distances.words(), 0), np.append(self.distances.lengths, 0)
            fields += [(words[column], lengths[column]) for column in self.gaps.T]
        return bit_stream(fields, _SPARE)


def select(op: Op, program: Program, target: Target) -> KernelCall | None:
    """The kernel of a layer whose weights are coded; None where another one has to do it, or is as small."""
    if not isinstance(op, ConvInt8 | DenseInt8) or not op.huffman or target.has("simd"):
        return None
    if _tiles(op, program, target) > _TILES or (isinstance(op, ConvInt8) and op.depthwise):
        return None
    coded = min(forms(op), key=lambda form: form.nbytes)
    if coded.nbytes > _WORTH * _other_bytes(op, program, target):
        return None
    constants, sizes = coded.constants(op.weight_bits), coded.sizes(op.weight[0].size)
    if isinstance(op, ConvInt8):
        return convolution_call(op, program, target, coded.reader, constants, sizes)
    return dense_call(op, program, coded.reader, constants, sizes)


def forms(op: ConvInt8 | DenseInt8) -> list[Coded]:
    """The weights in all forms that there are for them."""
    weights = op.weight.reshape(-1).astype(np.int64)
    raw_bits = _RAW if op.weight_bits == 8 else 0
    found = [_all_weights(weights, raw_bits)]
    if np.any(weights == 0) and np.any(weights):
        found += [_with_distances(weights, raw_bits, reach) for reach in _REACHES]
    return found


def _all_weights(weights: Integers, raw_bits: int) -> Coded:
    symbols = (weights >> raw_bits) % SYMBOLS
    code, bits = best_code(np.bincount(symbols, minlength=SYMBOLS))
    nbytes = -(-(bits + raw_bits * len(weights)) // 8) + _SPARE
    return Coded(symbols, weights % (1 << raw_bits), raw_bits, code, nbytes)


def _with_distances(weights: Integers, raw_bits: int, reach: int) -> Coded:
    places = np.flatnonzero(weights)
    whole = _all_weights(weights[places], raw_bits)
    distance = np.diff(np.append(places, len(weights)))
    chained = (distance - 1) // reach
    last = distance - chained * reach
    gaps = np.full((len(places), int(chained.max()) + 1), -1)
    gaps[np.arange(gaps.shape[1]) < chained[:, np.newaxis]] = 0
    gaps[np.arange(len(places)), chained] = last
    counts = np.bincount(last, minlength=SYMBOLS)
    counts[0] = chained.sum()
    code, bits = best_code(counts)
    nbytes = whole.nbytes + -(-bits // 8)
    return Coded(whole.symbols, whole.raw, raw_bits, whole.values, nbytes, gaps, code, int(places[0]), reach)


def _tiles(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> int:
    """How often all weights are read."""
    pixels = program.tensors[op.output].elements // len(op.weight)
    together = dense_tile(pixels) if isinstance(op, DenseInt8) else convolution_tile(pixels, target)
    return -(-pixels // together)


def _other_bytes(op: ConvInt8 | DenseInt8, program: Program, target: Target) -> int:
    """What the weights take without a code."""
    call = sparse.select(op, program, target)
    dense = sparse.dense_bytes(op)
    return dense if call is None else sum(c.array.nbytes for c in call.constants() if c.role in _SPARSE)


#: Constants of a sparse kernel that dense ones do not have.
_SPARSE = (WEIGHT, "counts")


def huffman_notes(calls: Iterable[tuple[Op, KernelCall]], program: Program, target: Target) -> list[str]:
    """Sentences for the report: what codes save, and which layers have none after all."""
    layers = [(op, call) for op, call in calls if isinstance(op, ConvInt8 | DenseInt8) and op.huffman]
    coded = [(op, call) for op, call in layers if is_coded(call)]
    notes = []
    if coded:
        now = sum(c.array.nbytes for _, call in coded for c in call.constants() if c.role in _CODED)
        before = sum(_other_bytes(op, program, target) for op, _ in coded)
        notes.append(
            f"The weights of {plural(len(coded), 'layer')}, from {coded[0][0].name} on, are in a Huffman "
            f"code: {now:,} bytes instead of {before:,}. Reading one takes about 20 instructions."
        )
    plain = [op.name for op, call in layers if not is_coded(call)]
    if plain:
        notes.append(
            f"The weights of {plural(len(plain), 'layer')}, from {plain[0]} on, are in no Huffman code: on "
            f"{target.name} {_why_not(target)}."
        )
    return notes


#: Constants that a code is made of.
_CODED = (WEIGHT, "values", "distances")


def is_coded(call: KernelCall) -> bool:
    return call.function.name.startswith("huffman_")


def _why_not(target: Target) -> str:
    if target.has("simd"):
        return "no kernel reads one"
    saving = f"{100 * (1 - _WORTH):.0f} %"
    return f"it would save less than {saving}, or be read for more than {_TILES} tiles of pixels"
