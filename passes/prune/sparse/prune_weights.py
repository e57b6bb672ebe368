"""Single weights, N of every M or blocks of them become 0, and the others may make up for it.

| method | a weight is worth | those that stay |
|---|---|---|
| ``magnitude`` | w^2 | stay, or with ``update`` are fitted |
| ``wanda`` | w^2 E[x^2] (Sun et al., arXiv:2306.11695) | the same |
| ``sparsegpt`` | w^2 / U_jj^2, chosen as inputs are eliminated | are fitted |
| ``admm`` | chosen in turns with what the others become | are fitted |

The formulas of the last two, and of the fit, are those of :mod:`irshrink.passes.prune.sparse.fit`. Layers are
visited in the order of the graph: each reads what the sparse layers before it give, and is fitted to what it
gave in the dense model, by ridge regression towards its old weights
(:mod:`irshrink.calibration.regression`). How strongly is asked of a quarter of the samples, held back.

The share that becomes 0 is that of every output, of every layer, or of all layers together; in the last case
a weight competes by what its loss would add to the error of its layer, relative to the layer's own energy
(``magnitude`` by its size alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from irshrink.calibration.patches import moment_macs
from irshrink.calibration.walk import LayerWalk
from irshrink.changes import ChangeLog
from irshrink.errors import RecipeError
from irshrink.graph.edit import constant, describe
from irshrink.graph.linear import is_linear
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.prune.sparse.allocation import Scope, allocated, below
from irshrink.passes.prune.sparse.fit import Method, Wanted, Zeros, admm, sparsegpt
from irshrink.passes.prune.sparse.layers import Layer, chosen_layers, gathered, mean_squares
from irshrink.passes.prune.sparse.pattern import Blocks, SomeOf, parse_pattern
from irshrink.passes.prune.sparse.settle import Settled, settled
from irshrink.passes.prune.sparse.store_sparse import StoreSparse
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.pipeline import Context, PassResult
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
MethodName = Literal["magnitude", "wanda", "sparsegpt", "admm"]

#: Multiply-accumulates of a turn of ADMM up to which plans have the time for it.
_MOST_TURN = 1e9
#: Shares that plans try.
_SPARSITIES = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.83, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96)


@dataclass(frozen=True)
class PruneWeights:
    """Set the weights of Conv, ConvTranspose, Gemm and MatMul that matter least to 0.

    Attributes:
        sparsity: share of the weights that become 0, of those that are not kept dense.
        threshold: instead of a share, what is smaller than this becomes 0 (of blocks: the root of the mean
            square); for ``magnitude`` alone.
        method: which weights; the table above.
        pattern: ``1x1`` single weights, ``4x2`` blocks of 4 outputs by 2 inputs, ``2:4`` at most two of every
            four inputs of an output, whatever ``sparsity`` says.
        scope: the share is that of each ``output`` (block of outputs), each ``layer``, or ``global``.
        update: fit the weights that stay to the outputs of the layer on calibration data.
        min_elements: smaller weights stay dense; they save nothing.
        keep_dense: nodes whose weights stay, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "prune-weights"
    lossy: ClassVar[bool] = True

    sparsity: float = 0.5
    threshold: float = 0.0
    method: MethodName = "magnitude"
    pattern: str = "1x1"
    scope: Scope = "layer"
    update: bool = False
    min_elements: int = 256
    keep_dense: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is {self.sparsity}; it must be at least 0 and below 1")
        if self.threshold < 0 or (self.threshold > 0 and self.method != "magnitude"):
            raise ValueError("threshold is a number above 0, for the method 'magnitude' alone")
        pattern = parse_pattern(self.pattern)
        if isinstance(pattern, SomeOf) and (self.threshold or self.scope == "global"):
            raise ValueError("a pattern N:M says how many weights stay: no threshold or scope goes with it")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """Zeros that are stored as nothing, of models whose weights are what makes them large."""
        if not any(_is_large(node, cls.min_elements) for node in module.graph):
            return ()
        levels = []
        turn = moment_macs(module.graph)
        method, products = ("admm", 300.0) if turn <= _MOST_TURN else ("sparsegpt", 60.0)
        for share in _SPARSITIES:
            step = {"pass": cls.name, "sparsity": share, "method": method, "scope": "global"}
            label = f"{share * 100:.0f} % of the weights are 0"
            levels.append(Level(label, share, (step,), ({"pass": StoreSparse.name},)))
        helps: frozenset[Effect] = frozenset({"size"})
        title, tried = "single weights removed", tuple(levels)
        return (Knob(cls.name, title, "weights", helps, tried, 15.0, products=products),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_dense, "keep_dense")
        layers = chosen_layers(module.graph, self.keep_dense, self.min_elements, ctx, matches)
        if not layers:
            return PassResult(False, stats={"layers": 0})
        log, before = ChangeLog(module.graph), sum(int((layer.rows == 0).sum()) for layer in layers)
        if module.taken_over is None:
            found = self._settle(module, layers, ctx)
        else:
            known = module.taken_over.step_of(self.name)
            found = [known.get(layer.key, Settled(layer.rows)) for layer in layers]
        for layer, settled_on in zip(layers, found, strict=True):
            self._write(layer, settled_on, log)
        module.measured.steps[self.name] = {
            layer.key: settled_on for layer, settled_on in zip(layers, found, strict=True)
        }
        total, after = sum(layer.rows.size for layer in layers), _zeros_of(layers)
        counts = {"layers": len(layers), "weights": total, "zeros_before": before, "zeros": after}
        share = {"sparsity": round(after / total, 6)}
        return PassResult(True, stats={**counts, **share, **log.stats(module.graph)})

    @property
    def _fits(self) -> bool:
        return self.update or self.method in ("sparsegpt", "admm")

    def _settle(self, module: Module, layers: Sequence[Layer], ctx: Context) -> list[Settled]:
        """What becomes of every layer."""
        samples = self._samples(module)
        scores = self._scores(module, layers, samples, ctx)
        zeros = self._zeros(scores)
        if self._fits:
            assert samples is not None, "_samples asks for them"
            return self._fit_all(module, layers, scores, zeros, samples, ctx)
        return [
            Settled(np.where(count.keep(score), layer.rows, 0.0))
            for layer, score, count in zip(layers, scores, zeros, strict=True)
        ]

    def _samples(self, module: Module) -> Samples | None:
        if module.calibration is None and (self._fits or self.method == "wanda"):
            raise RecipeError(
                f"prune-weights with method = {self.method}{' and update' if self.update else ''} needs "
                "calibration data. Give --calibration, or method = magnitude without update."
            )
        return module.calibration

    def _scores(
        self, module: Module, layers: Sequence[Layer], samples: Samples | None, ctx: Context
    ) -> list[Array]:
        """What weights are worth, [g, o, n]; in a unit that all layers share where they compete."""
        squares = [np.square(layer.rows) for layer in layers]
        if self.method == "magnitude" or samples is None:
            return squares
        ctx.progress("measuring what layers read")
        energies = mean_squares(module, samples, layers)
        scores = [square * energy for square, energy in zip(squares, energies, strict=True)]
        return [score / (score.sum() or 1.0) for score in scores]

    def _zeros(self, scores: Sequence[Array]) -> list[Zeros]:
        pattern = parse_pattern(self.pattern)
        if self.threshold:
            assert isinstance(pattern, Blocks), "__post_init__ refuses others"
            return below(scores, pattern, self.threshold)
        return allocated(scores, pattern, self.sparsity, self.scope)

    def _fit_all(
        self,
        module: Module,
        layers: Sequence[Layer],
        scores: Sequence[Array],
        zeros: Sequence[Zeros],
        samples: Samples,
        ctx: Context,
    ) -> list[Settled]:
        """Layer after layer, each reading what those before it have become."""
        reference = module.clone()
        originals = dict(zip(module.graph, reference.graph, strict=True))
        now, before = LayerWalk(module, samples), LayerWalk(reference, samples)
        results = []
        for layer, score, count in zip(layers, scores, zeros, strict=True):
            ctx.progress(f"pruning layer {layer.index + 1:,} of {len(layers):,}")
            reason, keep = layer.why_no_update, count.keep(score)
            if reason is not None:
                ctx.note(f"{describe(layer.node)}: weights that stay are not fitted: {reason}")
                found = Settled(np.where(keep, layer.rows, 0.0))
            else:
                sums = gathered(layer, now, (before, originals[layer.node]), len(samples))
                method = _METHODS.get(self.method) or partial(_on_mask, keep)
                found = settled(sums, layer.rows, method, count, layer.has_bias)
            layer.write(found.rows, found.bias)
            results.append(found)
        return results

    def _write(self, layer: Layer, found: Settled, log: ChangeLog) -> None:
        layer.write(found.rows, found.bias)
        gone, rows = int((found.rows == 0).sum()), found.rows
        log.because(
            layer.name,
            kind="zeros" if self.pattern == "1x1" else "pattern",
            detail=f"{gone:,} of {rows.size:,} weights are 0",
            score=self.method,
            output_error=found.error,
        )


_METHODS: dict[str, Method] = {"sparsegpt": sparsegpt, "admm": admm}


def _is_large(node: ir.Node, least: int) -> bool:
    weight = constant(node.inputs[1]) if is_linear(node) else None
    return weight is not None and weight.size >= least


def _on_mask(keep: Array, wanted: Wanted, zeros: Zeros) -> Array:
    return wanted.on(keep)


def _zeros_of(layers: Sequence[Layer]) -> int:
    weights = [constant(layer.node.inputs[1]) for layer in layers]
    return sum(int((weight == 0).sum()) for weight in weights if weight is not None)
