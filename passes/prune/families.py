"""What can be removed, as the passes here look at it: families of channels, and the layers that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.channels.groups import ChannelGroups, Site
from irshrink.graph.edit import Refusal, base_name
from irshrink.graph.linear import is_linear, linear_op
from irshrink.passes.prune.repair.wanted import require_repairable
from irshrink.passes.quantize.plan import matches
from irshrink.pipeline import Context

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Family:
    """Channels of which any number can go: what one layer writes, with all that is tied to them.

    Attributes:
        members: the groups, int64 [size], ascending.
        writers: the nodes that write them by their weights.
        readers: the layers that sum over them by constant weights that may change, with the group of each
            of their input channels.
    """

    members: Array
    writers: tuple[ir.Node, ...]
    readers: tuple[Site, ...]

    @property
    def name(self) -> str:
        """That of its first writer."""
        return base_name(self.writers[0])

    def __len__(self) -> int:
        return len(self.members)


def families(
    groups: ChannelGroups, exclude: Sequence[str], inexact: bool, least: int, ctx: Context
) -> list[Family]:
    """The families of more than ``least`` channels that nothing speaks against, in the graph's order.

    Args:
        exclude: patterns of nodes whose channels stay.
        inexact: whether channels may go that others are averaged with.
    """
    found = []
    for members in groups.members():
        sites = [site for site in groups.writers if np.isin(site.groups, members).any()]
        writers = tuple(site.node for site in sites)
        if len(members) <= least or any(matches(node, exclude) for node in writers):
            continue
        reason = next((groups.inexact[int(m)] for m in members if int(m) in groups.inexact), None)
        if reason is not None and not inexact:
            ctx.note(f"channels of '{base_name(writers[0])}' stay: {reason}")
            continue
        readers = [site for site in groups.readers if np.isin(site.groups, members).any()]
        found.append(Family(members, writers, tuple(site for site in readers if _can_change(site, ctx))))
    return found


def can_shrink(groups: ChannelGroups, least: int) -> bool:
    """Whether some layer could have fewer channels than it has, and more than ``least``."""
    return any(
        len(members) > least and not any(int(member) in groups.inexact for member in members)
        for members in groups.members()
    )


def note_refusals(groups: ChannelGroups, ctx: Context) -> None:
    """Say of every family that stays as a whole why it does."""
    for site in groups.writers:
        reasons = [groups.blocked.get(int(group)) for group in site.groups]
        first = next((reason for reason in reasons if reason is not None), None)
        if first is not None and all(reason is not None for reason in reasons):
            ctx.note(f"channels of '{base_name(site.node)}' stay: {first}")


def _can_change(site: Site, ctx: Context) -> bool:
    """Whether the reader's weights can make up for what it does not read any more."""
    if not is_linear(site.node):
        return False
    try:
        require_repairable(site.node)
        return linear_op(site.node).inputs == len(site.groups)
    except Refusal as reason:
        ctx.note(f"'{base_name(site.node)}' does not make up for lost inputs: {reason}")
        return False
