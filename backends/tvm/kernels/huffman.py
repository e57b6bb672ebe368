"""int8 layers whose weights lie in flash in a Huffman code, read bit by bit as they are multiplied.

Forms and codes are those of :mod:`~irshrink.backends.tvm.kernels.huffman_forms`: the one that takes the
fewest bytes is taken for each layer. (Han et al., *Deep compression*, ICLR 2016, section 4.)

An entry takes a load of a word from any address and one of each table: about 20 instructions, where dense
kernels take half of one to 6 for a product. It is done for the sake of flash alone (:data:`_WORTH`), and
where few tiles of pixels read the stream again (:data:`_TILES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from irshrink.backends.tvm.kernels import sparse
from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.huffman_forms import ROLES, Coded, forms_of
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
    TirFunction,
    address,
    bits_and,
    cast,
    constant,
    i32,
    inline,
    read,
    scalars,
    write,
)
from irshrink.console import plural
from irshrink.program.ops import ConvInt8, DenseInt8, Op
from irshrink.program.program import Program
from irshrink.target import Target

#: Share of the bytes of the smallest other kernel that a code may take.
_WORTH = 0.97
#: Tiles of pixels up to which weights are decoded for each.
_TILES = 64


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
        return f"huffman_s8_w{8 if self.raw else 4}{'d' if self.distances else ''}"

    @property
    def state(self) -> int:
        """The next bit; how far the next weight is, and the last entry of the table of distances."""
        return 3 if self.distances else 1

    def parameters(self) -> Sequence[Parameter]:
        return tables(self.distances)

    def sizes(self) -> Sequence[str]:
        return ("line", "value_mask", *(("first", "reach", "distance_mask") if self.distances else ()))

    def begin(self, f: Function, given: Sequence[Any], state: Buffer) -> None:
        f.store(state, 0, 0)
        if self.distances:
            f.store(state, 1, self._named(given)["first"])

    def channel(
        self, f: Function, given: Sequence[Any], state: Buffer, channel: Expr, start: Expr, multiply: Multiply
    ) -> None:
        stream = Stream(f, self._named(given), state, self.raw)
        if self.distances:
            stream.line(lambda place, weight: multiply(start + place, weight))
            stream.next_line()
            return
        with f.loop("e", stream.given["line"]) as e:
            used, number, _ = stream.weight()
            f.store(state, 0, state[i32(0)] + used)
            multiply(start + e, number)

    def _named(self, given: Sequence[Any]) -> dict[str, Any]:
        names = [*(p.name for p in self.parameters()), *self.sizes()]
        return dict(zip(names, given, strict=True))


def tables(distances: bool) -> list[Parameter]:
    """The constants that kernels read."""
    found = [constant("weight", "int8"), constant("values", "int8")]
    return [*found, constant("distances", "uint8")] if distances else found


@dataclass(frozen=True)
class Stream:
    """Writes what reads a stream.

    Attributes:
        given: constants and sizes by name.
        state: as of :class:`Reader`.
        raw: bits that follow the symbol of a weight.
    """

    f: Function
    given: Mapping[str, Any]
    state: Buffer
    raw: int

    def line(self, multiply: Multiply, table: Expr = 0) -> None:
        """All entries of a line; ``table`` is where that of its class begins."""
        f, state, line = self.f, self.state, self.given["line"]
        with f.repeat_while(state[i32(1)] < line):
            used, number, rest = self.weight()
            multiply(state[i32(1)], number)
            f.store(state, 2, self._distance(rest, table))
            f.store(state, 0, state[i32(0)] + used + bits_and(state[i32(2)], 7))
            with f.repeat_while(state[i32(2)] < 8):
                f.store(state, 1, state[i32(1)] + self.given["reach"])
                f.store(state, 2, self._distance(self.bits(), table))
                f.store(state, 0, state[i32(0)] + bits_and(state[i32(2)], 7))
            f.store(state, 1, state[i32(1)] + (state[i32(2)] >> 3))

    def next_line(self) -> None:
        """Count how far the next weight is from the line behind this one."""
        self.f.store(self.state, 1, self.state[i32(1)] - self.given["line"])

    def weight(self) -> tuple[Expr, Expr, Expr]:
        """Bits of the next weight, the weight, and the bits behind it."""
        word = self.f.bind("word", self.bits())
        value = self.f.bind(
            "value", cast("int32", self.given["values"][bits_and(word, self.given["value_mask"])])
        )
        length = self.f.bind("length", bits_and(value, 7))
        rest = self.f.bind("rest", word >> length)
        if not self.raw:
            return length, value >> 3, rest
        low = (1 << self.raw) - 1
        return length + self.raw, (value >> 3) * (1 << self.raw) + bits_and(rest, low), rest >> self.raw

    def bits(self) -> Expr:
        """25 bits or more of the stream from here on; what lies above them says nothing."""
        at = self.state[i32(0)]
        return inline("int32", "irs_load32", address(self.given["weight"], at >> 3)) >> bits_and(at, 7)

    def _distance(self, word: Expr, table: Expr) -> Expr:
        return cast("int32", self.given["distances"][table + bits_and(word, self.given["distance_mask"])])


@cache
def columns(raw: int, epilogue: Epilogue) -> TirFunction:
    """The C function for one row of data, input by input: all sums are in memory."""
    name = f"huffman_s8_w{8 if raw else 4}c{epilogue.suffix}"
    sizes = ("line", "value_mask", "first", "reach", "distance_mask", "distance_bits", "class_bits")
    own, extra = tables(True), epilogue.parameters()
    with Function(name, Reader.doc) as f:
        x, *rest = f.parameters(
            read("x", "int8"),
            *own,
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            write("sums", "int32"),
            *scalars("depth", *sizes),
        )
        read_from, (bias, *rest) = rest[: len(own)], rest[len(own) :]
        given, (y, sums, depth, *numbers) = rest[: len(extra)], rest[len(extra) :]
        state = f.local("at", "int32", 3)
        named = dict(zip([*(p.name for p in own), *sizes], [*read_from, *numbers], strict=True))
        stream, channels = Stream(f, named, state, raw), named["line"]
        with f.loop("c", channels) as c:
            f.store(sums, c, bias[c])
        f.store(state, 0, 0)
        f.store(state, 1, named["first"])
        with f.loop("k", depth) as k:
            with f.when(state[i32(1)] < channels):
                number = bits_and(stream.bits(), (i32(1) << named["class_bits"]) - 1)
                table = f.bind("table", number << named["distance_bits"])
                f.store(state, 0, state[i32(0)] + named["class_bits"])
                value = f.bind("value", cast("int32", x[k]))
                stream.line(lambda place, w: f.store(sums, place, sums[place] + w * value), table)
            stream.next_line()
        with f.loop("c", channels) as c:
            epilogue.emit(f, given, sums[c], c, y, c)
    return f.result


def select(op: Op, program: Program, target: Target) -> KernelCall | None:
    """The kernel of a layer whose weights are coded; None where another one has to do it, or is as small."""
    if not isinstance(op, ConvInt8 | DenseInt8) or not op.huffman or target.has("simd"):
        return None
    if _tiles(op, program, target) > _TILES or (isinstance(op, ConvInt8) and op.depthwise):
        return None
    coded = smallest(op, program)
    if coded.nbytes > _WORTH * _other_bytes(op, program, target):
        return None
    if coded.form == "columns":
        assert isinstance(op, DenseInt8), "others have no columns"
        return _columns(op, coded)
    reader = Reader(coded.form == "rows", coded.raw_bits)
    constants = coded.constants(op.weight_bits)
    sizes = list(coded.sizes(op.weight[0].size).values())
    if isinstance(op, ConvInt8):
        return convolution_call(op, program, target, reader, constants, sizes)
    return dense_call(op, program, reader, constants, sizes)


def smallest(op: ConvInt8 | DenseInt8, program: Program) -> Coded:
    """The form that takes the fewest bytes."""
    rows = op.weight.reshape(len(op.weight), -1)
    single = isinstance(op, DenseInt8) and program.tensors[op.output].elements == len(rows)
    return min(forms_of(rows, op.weight_bits, single), key=lambda form: form.nbytes)


def _columns(op: DenseInt8, coded: Coded) -> KernelCall:
    channels, depth = op.weight.shape
    return KernelCall(
        function=columns(coded.raw_bits, Epilogue.of(op.requantization)),
        arguments=(
            Input(0),
            *coded.constants(op.weight_bits),
            Constant("bias", op.bias),
            *epilogue_arguments(op.requantization, channels),
            Output(),
            Workspace(),
            depth,
            *coded.sizes(channels).values(),
        ),
        workspace_bytes=4 * channels,
    )


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
        now = sum(c.array.nbytes for _, call in coded for c in call.constants() if c.role in ROLES)
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


def is_coded(call: KernelCall) -> bool:
    return call.function.name.startswith("huffman_")


def _why_not(target: Target) -> str:
    if target.has("simd"):
        return "no kernel reads one"
    saving = f"{100 * (1 - _WORTH):.0f} %"
    return f"it would save less than {saving}, or be read for more than {_TILES} tiles of pixels"
