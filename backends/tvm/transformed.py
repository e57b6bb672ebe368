"""What a report says of convolutions that run in tiles of 2x2 or by Fourier transforms."""

from __future__ import annotations

from irshrink.program.ops import ConvF16, ConvF32
from irshrink.program.program import Program


def transform_notes(program: Program, weights: dict[str, int]) -> list[str]:
    """A sentence where there are such; ``weights`` are the bytes of constants of every operator."""
    ops = [op for op in program.ops if isinstance(op, ConvF32 | ConvF16) and (op.winograd or _segments(op))]
    if not ops:
        return []
    tiles = sum(op.winograd for op in ops)
    ways = [f"{tiles} in tiles of 2x2 (Winograd)"] * (tiles > 0)
    ways += [f"{len(ops) - tiles} by Fourier transforms"] * (tiles < len(ops))
    more = sum(weights[op.name] - op.weight.nbytes - op.bias.nbytes for op in ops)
    taken = f"Their transformed weights take {more:,} bytes more."
    kind = "float16" if all(isinstance(op, ConvF16) for op in ops) else "float32"
    return [f"Convolutions of {kind} run faster: {', '.join(ways)}. {taken}"]


def _segments(op: ConvF32 | ConvF16) -> int:
    return op.fourier if isinstance(op, ConvF32) else 0
