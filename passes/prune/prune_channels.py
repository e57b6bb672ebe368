"""Structured pruning: channels, filters, neurons and heads leave the graph, and the rest makes up for them.

One step is: find what must go together (:mod:`irshrink.channels`), order each family of channels and price
it, take the cheapest ones for what they save, let the layers that read them make up for them, cut them out,
and repair all layers behind in order. Removing a little at a time prices the next step on what the model has
become (iterative pruning: Molchanov et al., *Pruning convolutional neural networks for resource efficient
inference*, ICLR 2017). There is no training; calibration data needs no labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from irshrink.changes import ChangeLog
from irshrink.channels.groups import ChannelGroups, channel_groups
from irshrink.channels.remove import remove_groups
from irshrink.channels.unshare import unshare_vectors
from irshrink.errors import RecipeError
from irshrink.graph.edit import Refusal, base_name
from irshrink.graph.shapes import infer_shapes
from irshrink.judge import Expected
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.prune.allocation import By, Limits, channel_count, cheapest, same_share
from irshrink.passes.prune.compensate import compensations
from irshrink.passes.prune.dequantize import on_floats
from irshrink.passes.prune.families import Family, can_shrink, families, note_refusals
from irshrink.passes.prune.ranking import Ranking, needs_data, rank_by_loss, rank_by_score
from irshrink.passes.prune.repair.repair import repair_module
from irshrink.passes.prune.savings import Sizes, left_of, macs, target_costs, weight_bytes
from irshrink.passes.prune.scene import Scene, Split
from irshrink.passes.prune.scores import ScoreName
from irshrink.passes.quantize.plan import require_matches
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


#: What plans try, and how much they take out at a time.
_RATIOS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
_AT_ONCE = 0.2
#: Further steps where the model as it would be built takes more than its layers said.
_MORE = 6


@dataclass(frozen=True)
class PruneChannels:
    """Remove channels, filters, neurons and heads, and repair what is left.

    Attributes:
        ratio: what is to go, a share of what ``by`` names.
        by: ``macs``, ``bytes`` of weights, ``target`` (what layers take on the target), ``global`` (channels
            of all layers together) or ``layer`` (channels of each layer alike).
        score: how important a channel is (passes/prune/scores): ``reconstruction`` or ``second-order`` by
            what the next layers compute on calibration data, ``mean-square`` or ``apoz`` by activations,
            ``l1``, ``l2``, ``geometric-median`` or ``batchnorm-scale`` by weights alone.
        steps: remove so much at a time that the ratio is reached in so many steps, repairing in between.
        repair: let the layers that are left make up for those channels; needs calibration data.
        min_channels: so many channels are left of every layer.
        multiple: the channels left of a layer are a multiple of this; 0 for what the target's kernels like.
        exclude: nodes whose channels stay, by name or operator type; ``*`` and ``?`` as in file names.
        inexact: remove channels over which a normalization averages as well.
    """

    name: ClassVar[str] = "prune-channels"
    lossy: ClassVar[bool] = True

    ratio: float = 0.3
    by: By = "macs"
    score: ScoreName = "reconstruction"
    steps: int = 1
    repair: bool = True
    min_channels: int = 1
    multiple: int = 0
    exclude: tuple[str, ...] = ()
    inexact: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; it must be above 0 and below 1")
        for name in ("steps", "min_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.multiple < 0:
            raise ValueError(f"multiple is {self.multiple}; it must not be negative")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """Where they cost least for what a plan wants; and of all layers alike, for the arena.

        The arena is as large as the largest maps together: it falls when all of them do.
        """
        copy = module.clone()
        unshare_vectors(copy.graph)
        infer_shapes(copy.model)
        if not can_shrink(channel_groups(copy.graph), least=4):
            return ()
        by: By = "bytes"
        if "cost" in wishes.effects:
            by = "target" if wishes.exact_costs else "macs"
        return (
            _knob(cls.name, "channels removed where they matter least", by, {"size", "cost"}),
            _knob(f"{cls.name}-evenly", "channels removed from all layers alike", "layer", {"ram"}),
        )

    def run(self, module: Module, ctx: Context) -> PassResult:
        with on_floats(module, ctx):
            return self._run(module, ctx)

    def _run(self, module: Module, ctx: Context) -> PassResult:
        split = self._split(module, ctx)
        require_matches(module.graph, self.exclude, "exclude")
        unshare_vectors(module.graph)
        infer_shapes(module.model)
        module.keep_original()
        log = ChangeLog(module.graph)
        before = self._sizes(module, channel_groups(module.graph), ctx)
        whole = before.total(np.zeros(before.count, bool))
        built = self._built(module, ctx)
        removed, errors = self._remove(module, split, whole, ctx)
        if removed and built is not None:
            further, found = self._remove_on(module, split, built, ctx)
            removed, errors = removed + further, errors | found
        log.otherwise(kind="channels", score=self.score)
        for name, error in errors.items():
            log.because(name, kind="channels", score=self.score, output_error=error)
        saved = self._saved(module, whole, built, ctx)
        if saved < 0.98 * self.ratio and self.by not in ("layer", "global"):
            ctx.note(f"{100 * saved:.1f} % of {self.by} went, not {100 * self.ratio:.0f} %: no more can go")
        stats = {"channels": removed, "saved": round(saved, 4), "by": self.by, **log.stats(module.graph)}
        return PassResult(removed > 0, stats=stats)

    def _remove(
        self, module: Module, split: Split | None, whole: float, ctx: Context
    ) -> tuple[int, dict[str, float]]:
        """Go down to the ratio in so many steps; how many channels went, and the errors of the layers."""
        removed, errors = 0, dict[str, float]()
        for step in range(1, self.steps + 1):
            goal = whole * (1 - self.ratio * step / self.steps)
            ctx.progress(f"pruning, step {step} of {self.steps}")
            gone, found = self._step(module, split, goal, self.ratio / (self.steps - step + 1), ctx)
            removed, errors = removed + gone, errors | found
            if gone == 0:
                break
        return removed, errors

    def _remove_on(
        self, module: Module, split: Split | None, built: float, ctx: Context
    ) -> tuple[int, dict[str, float]]:
        """Go on while the whole model takes more than it should.

        Layers one by one do not tell what the compiler leaves out or fuses anyway.
        """
        removed, errors = 0, dict[str, float]()
        for step in range(1, _MORE + 1):
            now = self._built(module, ctx)
            short = 1.0 if now is None else now / (built * (1 - self.ratio))
            if short <= 1:
                break
            ctx.progress(f"pruning on, as the whole model saves less than its layers, step {step}")
            sizes = self._sizes(module, channel_groups(module.graph), ctx)
            goal = sizes.total(np.zeros(sizes.count, bool)) / short
            gone, found = self._step(module, split, goal, 0.0, ctx)
            removed, errors = removed + gone, errors | found
            if gone == 0:
                break
        return removed, errors

    def _built(self, module: Module, ctx: Context) -> float | None:
        """What the whole model takes on the target, as it would be built; None for other measures."""
        if self.by != "target" or ctx.costs is None:
            return None
        cost = ctx.costs.of_module(module).cost
        return None if cost is None else cost.amount

    def _saved(self, module: Module, whole: float, built: float | None, ctx: Context) -> float:
        """The share that went, of the whole model as it would be built where that is the measure."""
        now = None if built is None else self._built(module, ctx)
        if built and now is not None:
            return 1 - now / built
        after = self._sizes(module, channel_groups(module.graph), ctx)
        return 1 - after.total(np.zeros(after.count, bool)) / whole if whole else 0.0

    def _split(self, module: Module, ctx: Context) -> Split | None:
        if module.calibration is None:
            if self.repair or needs_data(self.score):
                raise RecipeError(
                    "prune-channels needs calibration data to repair layers and for this score. Give "
                    "--calibration, or say repair = false and a score of weights alone, such as l2."
                )
            return None
        if len(module.calibration) < 2:
            raise RecipeError("prune-channels needs at least two calibration samples: one decides, apart.")
        return Split.of(module.calibration)

    def _sizes(self, module: Module, groups: ChannelGroups, ctx: Context) -> Sizes:
        if self.by == "bytes":
            return weight_bytes(module.graph, groups)
        if self.by == "target":
            return target_costs(module.graph, groups, ctx)
        return macs(module.graph, groups)

    def _step(
        self, module: Module, split: Split | None, goal: float, share: float, ctx: Context
    ) -> tuple[int, dict[str, float]]:
        """Remove channels until ``goal`` is reached; how many went, and the errors of the layers."""
        groups = channel_groups(module.graph)
        note_refusals(groups, ctx)
        found = families(groups, self.exclude, self.inexact, self.min_channels, ctx)
        scene = Scene(module, groups, split, ctx)
        rankings = self._rankings(scene, found, ctx)
        limits = Limits(self.min_channels, self.multiple or ctx.target.channel_multiple)
        none = np.zeros(groups.count, bool)
        if self.by == "layer":
            gone = same_share(rankings, share, limits, none)
        elif self.by == "global":
            sizes = channel_count(rankings, groups.count)
            gone = cheapest(rankings, sizes, sizes.total(none) * (1 - share), limits, none)
        else:
            gone = cheapest(rankings, self._sizes(module, groups, ctx), goal, limits, none)
        if not gone.any():
            return 0, {}
        made_up = compensations(scene, [r.family for r in rankings], gone) if self.repair else []
        self._cut(module, groups, gone)
        for one in made_up:
            one.store()
        errors = {base_name(one.node): one.error for one in made_up}
        if self.repair:
            repairs = repair_module(module, ctx)
            errors |= {one.name: one.after for one in repairs}
        return int(gone.sum()), errors

    def _rankings(self, scene: Scene, found: list[Family], ctx: Context) -> list[Ranking]:
        judge = None
        if scene.split is not None and (self.repair or needs_data(self.score)):
            scene.measure(found)
        if scene.split is not None and (self.repair or self.score == "reconstruction"):
            judge = Expected(scene.module, scene.split.held)
        rankings = []
        for index, family in enumerate(found):
            ctx.progress(f"ranking channels, {index + 1:,} of {len(found):,}")
            try:
                if judge is not None:
                    rankings.append(rank_by_loss(scene, family, self.score, judge))
                else:
                    rankings.append(rank_by_score(scene, family, self.score))
            except Refusal as reason:
                ctx.note(f"channels of '{family.name}' stay: {reason}")
        return rankings

    def _cut(self, module: Module, groups: ChannelGroups, gone: Array) -> None:
        original = module.keep_original()
        left = left_of(groups, gone)
        remove_groups(module.graph, groups, gone)
        module.original = original.without(left)


#: What a share is of, for people.
_OF: dict[By, str] = {
    "bytes": "of the bytes of weights",
    "target": "of what layers take on the target",
    "macs": "of the multiplications",
    "layer": "of each layer's channels",
}


def _knob(name: str, title: str, by: By, helps: set[Effect]) -> Knob:
    levels = []
    for ratio in _RATIOS:
        step = {"pass": PruneChannels.name, "ratio": ratio, "by": by, "steps": math.ceil(ratio / _AT_ONCE)}
        levels.append(Level(f"{ratio * 100:.0f} % {_OF[by]}", ratio, (step,)))
    runs = 150.0 if by == "target" else 40.0
    return Knob(name, title, "channels", frozenset(helps), tuple(levels), runs, products=200.0)
