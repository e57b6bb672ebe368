"""Which loop of a kernel threads share: the one that has enough iterations for them."""

from __future__ import annotations

from irshrink.target import Target


def shares_blocks(target: Target, tiles: int, blocks: int) -> bool:
    """Whether threads share blocks of channels and not tiles of pixels, which is the rule."""
    return target.threads > 1 and tiles < 2 * target.threads and blocks > tiles
