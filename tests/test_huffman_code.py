"""Codes of bounded length: as short as they can be, and the stream says what was written."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.huffman_code import LONGEST, Code, best_code, bit_stream, code_lengths

Array = NDArray[Any]
COUNTS = st.lists(st.integers(0, 400), min_size=1, max_size=32).filter(any)


def without_limit(counts: Array) -> int:
    """Bits of Huffman's own code: the sum of all weights of inner nodes."""
    heap = [int(n) for n in counts if n]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        total += pair
        heapq.heappush(heap, pair)
    return total


def shortest(counts: tuple[int, ...], longest: int) -> float:
    """By trying every number of leaves of every depth (heavier symbols are never deeper)."""
    ordered = sorted((n for n in counts if n), reverse=True)

    def best(symbol: int, depth: int, free: int) -> float:
        if symbol == len(ordered):
            return 0.0
        if depth > longest or not free:
            return float("inf")
        options = [best(symbol, depth + 1, 2 * free)]
        options.append(depth * ordered[symbol] + best(symbol + 1, depth, free - 1))
        return min(options)

    return best(0, 1, 2)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(COUNTS, st.integers(5, LONGEST))
def test_codes_are_prefix_free_and_bounded(counts: list[int], longest: int) -> None:
    numbers = np.array(counts, np.int64)
    code = Code(code_lengths(numbers, longest))
    assert np.array_equal(code.lengths > 0, numbers > 0)
    assert code.longest <= longest
    assert (0.5 ** code.lengths[numbers > 0]).sum() <= 1
    used = np.flatnonzero(numbers)
    for a in used:
        for b in used:
            mask = (1 << code.lengths[a]) - 1
            assert a == b or code.lengths[a] > code.lengths[b] or code.words()[b] & mask != code.words()[a]
    bits = int(code.lengths @ numbers)
    free = without_limit(numbers)
    assert bits >= free
    if code.longest < longest:
        assert bits == free


@pytest.mark.parametrize("longest", [3, 4, 5])
def test_no_code_within_the_limit_is_shorter(longest: int) -> None:
    rng = np.random.default_rng(longest)
    for _ in range(40):
        counts = np.round(np.exp(rng.uniform(0, 7, int(rng.integers(2, 9))))).astype(np.int64)
        if len(counts) <= 1 << longest:
            assert int(code_lengths(counts, longest) @ counts) == shortest(tuple(counts.tolist()), longest)


def test_a_code_and_its_table_are_the_smallest_together() -> None:
    counts = np.array([10, 10, 20, 30, 50, 80, 130, 210])
    code = best_code(counts)
    bits = int(code.lengths @ counts) + 8 * code.table_bytes
    assert code.longest == 4  # Huffman's own has words of 7 bits, and a table of 128 bytes
    for longest in (3, 5, 6, 7):
        assert int(code_lengths(counts, longest) @ counts) + 8 * (1 << longest) > bits
    assert best_code([0, 9]).lengths.tolist() == [0, 1]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(COUNTS, st.integers(0, 3), st.integers(0, 99))
def test_the_table_reads_what_was_written(counts: list[int], raw: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    behind = rng.integers(0, 1 << raw, len(symbols))
    code = best_code(counts)
    numbers = np.stack([code.words()[symbols], behind], axis=1).reshape(-1)
    widths = np.stack([code.lengths[symbols], np.full(len(symbols), raw)], axis=1).reshape(-1)
    stream, table, at = bit_stream(numbers, widths, 3), code.table(code.longest), 0
    number = int.from_bytes(stream.tobytes(), "little")
    for symbol, low in zip(symbols, behind, strict=True):
        entry = int(table[(number >> at) & (code.table_bytes - 1)])
        assert entry >> 3 == symbol
        at += entry & 7
        assert (number >> at) & ((1 << raw) - 1) == low
        at += raw
    assert len(stream) == -(-at // 8) + 3
