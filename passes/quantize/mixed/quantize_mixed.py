"""Mixed precision: each layer's weights in as few bits as a budget of size or accuracy allows.

How much the network loses by each layer at each number of bits is measured on calibration data (``mixed/
sensitivity.py``); which bits each layer gets is a multiple-choice knapsack (``mixed/assignment.py``; Yao et
al., *HAWQ-V3*, ICML 2021). For a budget of accuracy two thirds of the samples choose and one third judges
(``mixed/search.py``).

The pass then is ``quantize-int8`` with the ``layer_bits`` that were found: the report and ``recipe.lock``
hold that step, which a person can edit and which gives the same model without a search.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from irshrink.console import plural
from irshrink.errors import BudgetError, RecipeError
from irshrink.graph.opset import raise_opset
from irshrink.judge import Counted, Expected, Judge
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.quantize.mixed.layers import FLOAT, Layer, find_layers
from irshrink.passes.quantize.mixed.mean import at_mean
from irshrink.passes.quantize.mixed.search import Mixture, Search
from irshrink.passes.quantize.mixed.sensitivity import Losses, Method, sensitivity
from irshrink.passes.quantize.quantize_int8 import OPSETS, QuantizeInt8
from irshrink.passes.store_huffman import StoreHuffman
from irshrink.pipeline import Context, PassResult
from irshrink.registry import make_pass
from irshrink.samples import Samples
from irshrink.shorthands import StepTable

#: What plans try, besides int8.
_MEANS = (7, 6, 5, 4.5, 4.25, 4, 3.75, 3.5, 3.25, 3, 2.5, 2)
#: How they are rounded then: what made least of them answer otherwise (docs/decisions/0038-knobs.md).
_ROUNDING = {"rounding": "quantease", "weight_range": "output"}
#: Of so many samples, the last one judges; the others choose.
_JUDGED = 3
#: The budget of who states none.
HALF_A_POINT = 0.005


@dataclass(frozen=True)
class QuantizeMixed:
    """Attributes:
    max_drop: accuracy that may be lost, as a fraction, estimated without labels; half a point, 0.005, where
        there is no budget at all.
    max_size: bytes that the ONNX model may take.
    mean_bits: in place of these budgets: weights that are not 0 have at most so many bits in the mean, shared
        out with the least loss.
    bits: the numbers of bits that weights may have: 8, 4, 3, 2, or 32 for layers that may stay float.
    sensitivity: ``measured`` runs the network once per layer and width, ``scaled`` once per layer,
        ``output-error`` once.
    samples: how many samples sensitivity is measured on, at even distances.
    judge: how a mixture's drop is found. ``expected`` estimates it without labels on a third of the samples,
        which took no part in choosing; ``counted`` counts answers on all of them, as ``compile`` does.
    metric: what ``counted`` counts, a name of docs/metrics.md; what fits the model where none is given.
    relative_drop: ``max_drop`` is a fraction of what the float model has; only where it is counted.
    keep_float: nodes that stay float in any case, by name or operator type.
    quantize: options of ``quantize-int8``, such as ``rounding``.
    """

    name: ClassVar[str] = "quantize-mixed"
    lossy: ClassVar[bool] = True

    max_drop: float | None = None
    max_size: int | None = None
    mean_bits: float | None = None
    bits: tuple[int, ...] = (8, 4, 2)
    sensitivity: Method = "measured"
    samples: int = 16
    judge: Literal["expected", "counted"] = "expected"
    metric: str | None = None
    relative_drop: bool = False
    keep_float: tuple[str, ...] = ()
    quantize: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.bits) - {*OPSETS, FLOAT})
        if unknown or not set(self.bits) & set(OPSETS):
            raise ValueError(
                f"bits is {list(self.bits)}; it must hold some of 8, 4, 3, 2, and 32 for float besides"
            )
        if self.judge == "expected" and (self.metric is not None or self.relative_drop):
            raise ValueError("metric and relative_drop are for judge = 'counted'")
        if self.max_drop is not None and self.metric is None and not 0 <= self.max_drop <= 1:
            raise ValueError(f"max_drop is {self.max_drop}; it is a fraction, 0.005 is half a point")
        if self.mean_bits is not None:
            if self.max_drop is not None or self.max_size is not None:
                raise ValueError("mean_bits stands in place of max_drop and max_size")
            if self.mean_bits < min(self.bits):
                raise ValueError(f"mean_bits is {self.mean_bits:g}; {min(self.bits)} are the fewest of bits")
        for key in ("max_size", "samples"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise ValueError(f"{key} is {value}; it must be positive")
        taken = sorted({"weight_bits", "layer_bits", "keep_float"} & set(self.quantize))
        if taken:
            raise ValueError(f"quantize has '{taken[0]}', which this pass decides")
        _pass(self._uniform(8))

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """Numbers of bits; int8 alone where nothing has to take fewer bytes."""
        coded = any(knob.obligatory for knob in StoreHuffman.knobs(module, wishes))
        int8 = Level("8 bits", 0.5, ({"pass": QuantizeInt8.name},))
        levels = [int8]
        for bits in _MEANS if "size" in wishes.effects else ():
            step: StepTable = {"pass": cls.name, "mean_bits": bits, "quantize": _ROUNDING}
            if bits >= 4:  # two widths: what one layer loses in 4 bits decides
                step |= {"bits": [8, 4], "sensitivity": "scaled"}
            elif coded:
                step |= {"bits": [8, 4, 3, 2]}
            levels.append(Level(f"{bits:g} bits in the mean", 8 - bits, (step,)))
        helps: frozenset[Effect] = frozenset({"size"})
        title, tried = "bits of weights", tuple(levels)
        return (Knob(cls.name, title, "numbers", helps, tried, 20.0, products=50.0, obligatory=True),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        stats: dict[str, Any] = {}
        if module.taken_over is not None:
            step = module.taken_over.step_of(self.name)
        else:
            step, stats = self._decide(module, ctx)
            module.measured.steps[self.name] = step
        inner = ctx.inner(QuantizeInt8.name, module.graph)
        result = _pass(step).run(module, inner)
        for note in inner.notes:
            ctx.note(note)
        return PassResult(result.changed, result.preserves, {**result.stats, **stats, "step": step})

    def _decide(self, module: Module, ctx: Context) -> tuple[dict[str, Any], dict[str, Any]]:
        """The ``quantize-int8`` step that keeps the budget, and what the report says about it."""
        if module.calibration is None:
            raise RecipeError(
                "quantize-mixed needs calibration data. "
                "Give --calibration with an .npz file or a folder of images."
            )
        if self.mean_bits is not None:
            return self._shared_out(module, module.calibration, self.mean_bits, ctx)
        search = self._search(module, module.calibration, ctx)
        if search is None:
            return self._all_alike(), {}
        found = self._found(search)
        ctx.note(_sentence(found, search))
        return self._step(search.layers, found.bits), {
            "mixture": _widths(found.bits),
            "file_bytes": found.nbytes,
            "predicted_loss": found.predicted,
            "expected_drop": found.drop,
            "judged_on": search.judge.samples,
            "layer_decisions": _decisions(search.layers, search.losses, found.bits),
        }

    def _shared_out(
        self, module: Module, samples: Samples, mean: float, ctx: Context
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The step with at most so many bits in the mean, and what the report says about it."""
        few = samples.spread(self.samples)
        _, layers, losses, _ = self._ways(module, few, _rough, ctx)
        if not layers:
            return self._all_alike(), {}
        bits, predicted = at_mean(layers, losses, mean)
        return self._step(layers, bits), {
            "mixture": _widths(bits),
            "predicted_loss": predicted,
            "layer_decisions": _decisions(layers, losses, bits),
        }

    def _search(self, module: Module, samples: Samples, ctx: Context) -> Search | None:
        """Everything measured; None where no layer has weights to choose bits for."""
        choosing, judging = _split(samples) if self.judge == "expected" else (samples, samples)
        original, layers, losses, base = self._ways(module, choosing, _alone, ctx)
        if not layers:
            return None
        judge: Judge = Expected(original, judging)
        if self.judge == "counted":
            judge = Counted(original, judging, self.metric, self.relative_drop)
        alone = _alone(self.quantize) == self.quantize
        real = None if alone else partial(self._real, original, layers, ctx)
        return Search(base, layers, losses, judge, ctx.progress, real)

    def _ways(
        self, module: Module, choosing: Samples, like: Callable[[StepTable], StepTable], ctx: Context
    ) -> tuple[Module, list[Layer], list[Losses], Module]:
        """The float model, its layers at each width, what they lose, and the model at the fewest bits.

        Args:
            like: how the model is rounded for it, made of the step that rounds all layers alike.
        """
        original = module.clone()
        raise_opset(original, OPSETS[min(set(self.bits) - {FLOAT})])
        original.calibration = choosing
        quantized = {
            bits: _quantized(like(self._uniform(bits)), original, ctx)
            for bits in sorted(set(self.bits) - {FLOAT}, reverse=True)
        }
        ways = {FLOAT: original, **quantized} if FLOAT in self.bits else quantized
        layers = find_layers(original, ways)
        if not layers:
            return original, [], [], original
        few = choosing.spread(self.samples)
        losses = sensitivity(
            original, layers, few, self.sensitivity,
            lambda done, total: ctx.progress(f"measuring sensitivity, {done:,} of {total:,}"),
        )  # fmt: skip
        return original, layers, losses, quantized[min(quantized)]

    def _real(self, original: Module, layers: Sequence[Layer], ctx: Context, bits: Sequence[int]) -> Module:
        """The model quantized with these bits, on the samples that choose."""
        return _quantized(self._step(layers, bits), original, ctx)

    def _found(self, search: Search) -> Mixture:
        """
        Raises:
            BudgetError: no mixture keeps the budget; the message says what the nearest one takes.
        """
        if self.max_drop is None and self.max_size is not None:
            return search.within_size(self.max_size)
        drop = HALF_A_POINT if self.max_drop is None else self.max_drop
        found = search.within_drop(drop)
        if self.max_size is not None and found.nbytes > self.max_size:
            raise BudgetError(
                f"size: {found.nbytes:,} bytes is the smallest model expected to lose at most "
                f"{drop * 100:.2f} points, {found.nbytes - self.max_size:,} more than the "
                f"{self.max_size:,} allowed. Allow a larger drop or a larger file."
            )
        return found

    def _all_alike(self) -> dict[str, Any]:
        """For models in which no layer has weights to choose bits for."""
        return self._uniform(max(set(self.bits) - {FLOAT}))

    def _uniform(self, bits: int) -> dict[str, Any]:
        """The entry of a recipe's ``steps`` with all layers alike."""
        given = {"weight_bits": bits, "layer_bits": {}, "keep_float": list(self.keep_float)}
        return {"pass": QuantizeInt8.name, **self.quantize, **given}

    def _step(self, layers: Sequence[Layer], bits: Sequence[int]) -> dict[str, Any]:
        """The same with the most frequent width for all, and the others by name."""
        count = Counter(width for width in bits if width != FLOAT)
        usual = max(count, key=lambda width: (count[width], width), default=max(set(self.bits) - {FLOAT}))
        named = dict(zip((layer.name for layer in layers), bits, strict=True))
        patterns = any(set(name) & set("*?[") for name in named)  # a name that may fit others: name them all
        step = self._uniform(usual)
        step["layer_bits"] = {name: b for name, b in named.items() if b != FLOAT and (b != usual or patterns)}
        step["keep_float"] += [name for name, b in named.items() if b == FLOAT]
        return step


def _rough(step: StepTable) -> StepTable:
    """A step that rounds well enough to tell layers apart: each weight to the nearest integer."""
    clipped = step.get("weight_range", "max") != "max"
    plain = {"rounding": "nearest", "weight_range": "mse" if clipped else "max", "reconstruct_steps": 0}
    return {**_alone(step), **plain}


def _alone(step: StepTable) -> StepTable:
    """A step that rounds each layer for itself, whatever was done to those before it."""
    alone = dict(step)
    if alone.get("compensate"):
        alone["compensate"] = False
    if alone.get("bias_correction") == "empirical":
        alone["bias_correction"] = "analytic"
    return alone


def _quantized(step: Mapping[str, Any], original: Module, ctx: Context) -> Module:
    module = original.clone()
    _pass(step).run(module, ctx.inner(QuantizeInt8.name, module.graph))
    return module


def _pass(step: Mapping[str, Any]) -> QuantizeInt8:
    made = make_pass(QuantizeInt8.name, {key: value for key, value in step.items() if key != "pass"})
    assert isinstance(made, QuantizeInt8)
    return made


def _split(samples: Samples) -> tuple[Samples, Samples]:
    """Samples that choose, and samples that judge; all do both where there are too few."""
    if len(samples) < _JUDGED:
        return samples, samples
    judges = np.arange(len(samples)) % _JUDGED == _JUDGED - 1
    first, second = (
        dataclasses.replace(samples, select=samples.select[which]) for which in (~judges, judges)
    )
    return first, second


def _sentence(found: Mixture, search: Search) -> str:
    """What was decided, for the report."""
    return (
        f"Weights of {plural(len(search.layers), 'layer')}: {_widths(found.bits)}; the model takes "
        f"{found.nbytes:,} bytes and is expected to lose {found.drop * 100:.2f} {search.judge.points} "
        f"(estimated on {plural(search.judge.samples, 'sample')})."
    )


def _widths(bits: Sequence[int]) -> str:
    """``12 in 4 bits, 3 in 8 bits``."""
    count = sorted(Counter(bits).items())
    return ", ".join(f"{n} in {'float' if width == FLOAT else f'{width} bits'}" for width, n in count)


def _decisions(
    layers: Sequence[Layer], losses: Sequence[Losses], chosen: Sequence[int]
) -> list[dict[str, Any]]:
    """For every layer what was chosen, what it takes, and what it would lose by each width."""
    return [
        {
            "name": layer.name,
            "op_type": layer.op_type,
            "weights": layer.elements,
            "bits": bits,
            "bytes": layer.stored[bits].nbytes,
            "saved_bytes": max(one.nbytes for one in layer.stored.values()) - layer.stored[bits].nbytes,
            "loss": {str(width): lost[width] for width in layer.stored},
        }
        for layer, lost, bits in zip(layers, losses, chosen, strict=True)
    ]
