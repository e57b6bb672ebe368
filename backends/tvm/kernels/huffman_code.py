"""Huffman codes of bounded length, the tables that decode them, and streams of bits.

Lengths are those of package-merge: Larmore and Hirschberg, *A fast algorithm for optimal length-limited
Huffman codes*, Journal of the ACM 37 (3), 1990. Codes are canonical and written from their first bit on, the
first bit of a byte being its lowest. So whoever has the next bits in a word finds the symbol in a table, by
as many of the lowest ones as the longest code has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Bits of the longest code: an entry of a table has three for the length.
LONGEST = 7
#: Symbols that the other five bits of an entry can tell apart.
SYMBOLS = 32

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Code:
    """Attributes:
    lengths: bits of every symbol, 0 of one that does not occur.
    """

    lengths: Integers

    @property
    def longest(self) -> int:
        """Bits by which the smallest table is read."""
        return int(self.lengths.max())

    @property
    def table_bytes(self) -> int:
        return 1 << self.longest

    def words(self) -> Integers:
        """The code of every symbol, its first bit lowest."""
        words, word, before = np.zeros(len(self.lengths), np.int64), 0, 0
        for symbol in np.lexsort((np.arange(len(self.lengths)), self.lengths)).tolist():
            length = int(self.lengths[symbol])
            if length == 0:
                continue
            word <<= length - before
            words[symbol] = int(f"{word:0{length}b}"[::-1], 2)
            word, before = word + 1, length
        return words

    def table(self, bits: int) -> NDArray[np.uint8]:
        """By the next ``bits``: ``8 * symbol + length``. What no code begins with is never read."""
        table = np.zeros(1 << bits, np.uint8)
        for symbol, (word, length) in enumerate(zip(self.words(), self.lengths, strict=True)):
            if length:
                table[word :: 1 << length] = 8 * symbol + length
        return table


def best_code(counts: Sequence[int] | Integers) -> Code:
    """The code for which stream and table take the fewest bits.

    Args:
        counts: how often each of at most :data:`SYMBOLS` symbols occurs; one of them does.
    """
    numbers = np.asarray(counts, np.int64)
    least = max(1, int(np.count_nonzero(numbers) - 1).bit_length())
    codes = [Code(code_lengths(numbers, longest)) for longest in range(least, LONGEST + 1)]
    bits = [int(code.lengths @ numbers) + 8 * code.table_bytes for code in codes]
    return codes[int(np.argmin(bits))]


def code_lengths(counts: Integers, longest: int) -> Integers:
    """Lengths of the best prefix code without one above ``longest``, by package-merge.

    Among equally heavy packages the one of fewer symbols, then of earlier ones, comes first.
    """
    lengths = np.zeros(len(counts), np.int64)
    coins: list[tuple[int, tuple[int, ...]]] = sorted(
        (n, (symbol,)) for symbol, n in enumerate(counts.tolist()) if n
    )
    if len(coins) == 1:
        lengths[coins[0][1][0]] = 1
        return lengths
    merged = coins
    for _ in range(longest - 1):
        pairs = [
            (merged[i][0] + merged[i + 1][0], merged[i][1] + merged[i + 1][1])
            for i in range(0, len(merged) - 1, 2)
        ]
        merged = sorted([*coins, *pairs], key=lambda package: (package[0], len(package[1]), package[1]))
    for _, symbols in merged[: 2 * len(coins) - 2]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


def bit_stream(values: Integers, widths: Integers, spare: int) -> NDArray[np.uint8]:
    """Numbers written one after the other, the first bit of each lowest.

    Args:
        values: the numbers.
        widths: how many bits of each are written, 0 for none.
        spare: bytes of zeros behind the last bit.
    """
    ends = np.cumsum(widths)
    place = np.arange(int(ends[-1])) - np.repeat(ends - widths, widths)
    bits = (np.repeat(values, widths) >> place) & 1
    return np.append(np.packbits(bits.astype(np.uint8), bitorder="little"), np.zeros(spare, np.uint8))
