"""What a layer's weights are as entries of a stream, and how many bytes each form takes.

| form | an entry | lines |
|---|---|---|
| ``all`` | a weight | |
| ``rows`` | a weight that is not 0 and how much further the next one is | channels |
| ``columns`` | the same | inputs, for layers of one row of data |

Distances go on from line to line: what passes the end of one counts in the next, so that entries of a line
need not be counted. The symbol 0 of a distance says that it is ``reach`` more, and another symbol follows.
Columns are told apart by how many weights they have (an input at the edge of a picture has few): each is in
one of up to four classes with a code of distances of its own, its number in front of the column's first
entry.

Of a weight of 8 bits the upper five are a symbol; the lower three behind it are as good as random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Constant
from irshrink.backends.tvm.kernels.huffman_code import (
    LONGEST,
    SYMBOLS,
    Code,
    best_code,
    bit_stream,
    code_lengths,
)
from irshrink.backends.tvm.kernels.packed import WEIGHT

Form = Literal["all", "rows", "columns"]
Integers = NDArray[np.int64]

#: Bytes that kernels read behind the last bit.
SPARE = 3
#: Constants that a code is made of.
ROLES = (WEIGHT, "values", "distances")
#: Bits of a weight of 8 that follow its symbol as they are.
_RAW = 3
#: Distances above which symbols are chained.
_REACHES = (7, 15, 31)
#: Bits of a class.
_CLASS_BITS = (0, 1, 2)
#: How often columns move to the class whose code is shortest for them.
_TURNS = 6
#: Bits that a symbol counts as where a code has none for it.
_FAR = 16


@dataclass(frozen=True, eq=False)
class Distances:
    """Where weights that are not 0 lie.

    Attributes:
        chained: of every entry how many symbols of 0 it has, and ``last`` the one behind them.
        first: place of the first weight.
        reach: what the symbol 0 is.
        codes: of the classes.
        bits: by which their tables are read.
        classes: of the line of every entry, and ``opens`` whether it is the first there.
        class_bits: of the number of a class.
        stream_bits: what all of this takes in the stream.
    """

    chained: Integers
    last: Integers
    first: int
    reach: int
    codes: tuple[Code, ...]
    bits: int
    classes: Integers
    opens: NDArray[np.bool_]
    class_bits: int
    stream_bits: int

    @property
    def tables(self) -> NDArray[np.uint8]:
        """One behind the other."""
        return np.concatenate([code.table(self.bits) for code in self.codes])


@dataclass(frozen=True, eq=False)
class Coded:
    """Weights in a form.

    Attributes:
        form: which.
        symbols: of the weights that are entries.
        raw: the bits behind each, ``raw_bits`` of them.
        values: their code.
        distances: of the forms that have them.
    """

    form: Form
    symbols: Integers
    raw: Integers
    raw_bits: int
    values: Code
    distances: Distances | None = None

    @property
    def nbytes(self) -> int:
        """Stream and tables."""
        counts = np.bincount(self.symbols, minlength=SYMBOLS)
        bits, tables = int(counts @ self.values.lengths) + self.raw_bits * len(self.symbols), 0
        if self.distances is not None:
            bits, tables = bits + self.distances.stream_bits, len(self.distances.codes) << self.distances.bits
        return -(-bits // 8) + SPARE + self.values.table_bytes + tables

    def constants(self, bits: int) -> list[Constant]:
        """What the kernel reads; ``bits`` are those of a weight."""
        found = [Constant(WEIGHT, bit_stream(*self._fields(), SPARE).view(np.int8), bits)]
        found.append(Constant("values", self.values.table(self.values.longest).view(np.int8), bits))
        if self.distances is not None:
            found.append(Constant("distances", self.distances.tables, bits))
        return found

    def sizes(self, line: int) -> dict[str, int]:
        """What the kernel is told; ``line`` is how many weights a line has."""
        numbers = {"line": line, "value_mask": self.values.table_bytes - 1}
        d = self.distances
        if d is not None:
            numbers |= {"first": d.first, "reach": d.reach, "distance_mask": (1 << d.bits) - 1}
        if d is not None and self.form == "columns":
            numbers |= {"distance_bits": d.bits, "class_bits": d.class_bits}
        return numbers

    def _fields(self) -> tuple[Integers, Integers]:
        """Numbers in the order of the stream, and the bits of each."""
        values = self.values.words()[self.symbols], self.values.lengths[self.symbols]
        raw = self.raw, np.full(len(self.raw), self.raw_bits)
        d = self.distances
        if d is None:
            numbers, widths = (np.stack(pair, axis=1).reshape(-1) for pair in zip(values, raw, strict=True))
            return numbers, widths
        counts = d.chained + 4  # class, weight, its lower bits, distance
        ends = np.cumsum(counts)
        begins = ends - counts
        opens = d.classes, d.opens * d.class_bits
        found = []
        for part, tables in enumerate(([c.words() for c in d.codes], [c.lengths for c in d.codes])):
            table = np.stack(tables)
            column = np.repeat(table[d.classes, 0], counts)
            column[begins], column[begins + 1], column[begins + 2] = opens[part], values[part], raw[part]
            column[ends - 1] = table[d.classes, d.last]
            found.append(column)
        return found[0], found[1]


def forms_of(weight: NDArray[np.int8], bits: int, columns: bool) -> Iterator[Coded]:
    """Weights [channels, inputs] in all forms that there are for them.

    Args:
        bits: of a weight, 8, 4 or 2.
        columns: whether to go by inputs, too.
    """
    yield _coded("all", weight.reshape(-1), bits)
    if not np.any(weight) or np.all(weight):
        return
    for reach in _REACHES:
        yield _with_distances("rows", weight, bits, reach, 0)
        for class_bits in _CLASS_BITS if columns else ():
            yield _with_distances("columns", weight.T, bits, reach, class_bits)


def _coded(form: Form, weights: NDArray[np.int8], bits: int, distances: Distances | None = None) -> Coded:
    numbers, raw_bits = weights.astype(np.int64), _RAW if bits == 8 else 0
    symbols = (numbers >> raw_bits) % SYMBOLS
    code = best_code(np.bincount(symbols, minlength=SYMBOLS))
    return Coded(form, symbols, numbers % (1 << raw_bits), raw_bits, code, distances)


def _with_distances(form: Form, lines: NDArray[np.int8], bits: int, reach: int, class_bits: int) -> Coded:
    flat = np.ascontiguousarray(lines).reshape(-1)
    places = np.flatnonzero(flat)
    line = places // lines.shape[1]
    distance = np.diff(np.append(places, len(flat)))
    chained = (distance - 1) // reach
    last = distance - chained * reach
    counts = np.zeros((len(lines), SYMBOLS), np.int64)
    np.add.at(counts, (line, last), 1)
    np.add.at(counts, (line, 0), chained)
    classes = _classes(counts, 1 << class_bits)
    together = [counts[classes == k].sum(axis=0) for k in range(1 << class_bits)]
    codes, table_bits = _codes(together)
    opens = np.diff(line, prepend=-1) != 0
    stream = sum(int(code.lengths @ one) for code, one in zip(codes, together, strict=True))
    found = Distances(
        chained,
        last,
        int(places[0]),
        reach,
        codes,
        table_bits,
        classes[line],
        opens,
        class_bits,
        stream + class_bits * int(opens.sum()),
    )
    return _coded(form, flat[places], bits, found)


def _classes(counts: Integers, number: int) -> Integers:
    """The class of every line, by which code of all is shortest for it; by size to begin with."""
    size = counts.sum(axis=1)
    live = np.sort(size[size > 0])
    edges = live[[len(live) * k // number for k in range(1, number)]]
    classes = np.digitize(size, edges)
    for _ in range(_TURNS if number > 1 else 0):
        lengths = [_lengths(counts[classes == k].sum(axis=0), LONGEST) for k in range(number)]
        bits = np.stack([counts @ np.where(one > 0, one, _FAR) for one in lengths], axis=1)
        classes = np.argmin(bits, axis=1)
    return np.asarray(classes, np.int64)


def _codes(counts: list[Integers]) -> tuple[tuple[Code, ...], int]:
    """A code for each class, and the bits of their tables, for which stream and tables are smallest."""
    least = max(1, *(int(np.count_nonzero(one) - 1).bit_length() for one in counts))
    found = []
    for bits in range(least, LONGEST + 1):
        codes = tuple(Code(_lengths(one, bits)) for one in counts)
        stream = sum(int(code.lengths @ one) for code, one in zip(codes, counts, strict=True))
        found.append((stream + 8 * len(codes) * (1 << bits), bits, codes))
    _, bits, codes = min(found, key=lambda one: one[:2])
    return codes, bits


def _lengths(counts: Integers, longest: int) -> Integers:
    """Of a code for a class, which may be that of no line."""
    return code_lengths(counts, longest) if counts.any() else np.zeros(len(counts), np.int64)
