"""The order of the cleanup passes: from any exporter's graph to the few operators that later passes know.

Read it top to bottom. A pass that makes work for an earlier one is in the same fixpoint.
"""

from __future__ import annotations

from irshrink.pipeline import Fixpoint, Pass, Step
from irshrink.registry import make_pass


def cleanup_steps() -> tuple[Step, ...]:
    """The cleanup phases in order. None of them changes what the model computes beyond float rounding."""
    return (
        # 1. Constants that are constant, one form of every operator, and a type and a shape for every value.
        *_passes("remove-initializers-from-inputs", "inline-functions", "raise-opset", "qoperator-to-qdq"),
        *_passes("eliminate-dead-code", "infer-shapes", "squeeze-range-inputs"),
        # 2. What is known now is computed now. Folding a shape computation makes shapes static, which
        #    makes more of it constant.
        Fixpoint(
            _passes(
                "expand-operators",
                "decompose-dft",
                "decompose-einsum",
                "fold-constants",
                "resolve-control-flow",
                "infer-shapes",
                "fold-reshape-targets",
                "eliminate-identity",
                "eliminate-common-subexpressions",
                "eliminate-dead-code",
            )
        ),
        # 3. Several nodes that a converter wrote for one become that one: later phases fold into linear
        #    operators, so these must be recognized, and lone activations must not be torn apart.
        Fixpoint(_passes("fuse-clips", "recognize-layernorm", "recognize-activations", "matmul-add-to-gemm")),
        # 4. Data movement cancels out, and arithmetic with constants goes into weights. Each one can bring
        #    the next one's pattern together.
        Fixpoint(
            _passes(
                "fuse-casts",
                "fuse-concats",
                "fuse-reduces",
                "fuse-reshapes",
                "fuse-transposes",
                "move-transposes",
                "fold-batchnorm",
                "fold-affine",
                "fold-pad",
                "fuse-clips",
                "eliminate-identity",
                "fold-constants",
            )
        ),
        # 5. Sweep up.
        *_passes("eliminate-common-subexpressions", "eliminate-dead-code", "infer-shapes"),
    )


def _passes(*names: str) -> tuple[Pass, ...]:
    return tuple(make_pass(name) for name in names)
