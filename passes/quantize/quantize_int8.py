"""Post-training quantization to int8: a QDQ graph that any ONNX runtime can load.

Activations are int8 per tensor, biases int32 with the scale of the accumulator. Weights are symmetric, one
scale per output channel: int8 or, stored in fewer bits, int4 or int2. A Relu or Clip behind Conv, Gemm,
MatMul or Add is part of it; operators that only move values keep the scale of their input. (Jacob et al.,
CVPR 2018; Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference*,
arXiv:1806.08342.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from irshrink.calibration import CalibrationMethod, calibrate, channel_means
from irshrink.errors import RecipeError
from irshrink.graph.edit import drop_unread_constants
from irshrink.graph.opset import raise_opset
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.quantize import qparams
from irshrink.passes.quantize.constants import ConstantQuantizer, linear_weight, output_axis
from irshrink.passes.quantize.functions import functions_behind
from irshrink.passes.quantize.plan import Plan, listed, make_plan, matches, require_matches
from irshrink.passes.quantize.qdq import QdqWriter
from irshrink.passes.quantize.reconstruct import reconstruct, require_torch
from irshrink.passes.quantize.rounding import RoundingName
from irshrink.passes.quantize.rounding.layer import Layer, read_layer, write_layer
from irshrink.passes.quantize.rounding.refine import BiasCorrection, Refinement
from irshrink.passes.quantize.rounding.weight_range import WeightRange
from irshrink.passes.quantize.scales import Scales, widths_of
from irshrink.pipeline import Context, PassResult
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: By the fewest bits of a weight: DequantizeLinear has an axis, which per-channel scales need, since opset
#: 13, and reads int4 since 21, int2 since 25.
OPSETS = {8: 13, 4: 21, 3: 21, 2: 25}
INT16_OPSET = 21
Bits = Literal[2, 3, 4, 8]


@dataclass(frozen=True)
class QuantizeInt8:
    """Attributes:
    method: how ranges are chosen from calibration data; see :class:`irshrink.calibration.CalibrationMethod`.
    percentile: of the values that stay unclipped, for ``percentile``.
    activations: ``asymmetric`` uses all 256 levels; ``symmetric`` has the zero point 0, as int16 always has.
    activation_bits: 8 or 16, int16; layers, sums, averages and maxima then run between int16, the rest in
        float32.
    weight_bits: of every weight: 8, 4, 3 or 2; fewer bits take less flash, 3 in a Huffman code only, as files
        have no such numbers; the arithmetic stays that of int8.
    layer_bits: bits of the weights of some nodes, by name or operator type (``*`` and ``?`` as in file
        names); the first pattern that fits a node decides.
    layer_activation_bits: bits of what some nodes read and write, likewise; activations behind a layer
        have those of the layer, other operators without a pattern the fewest of what they read.
    per_channel: one weight scale per output channel, or one per tensor.
    rounding: how the integers of weights are chosen: ``nearest``, or with regard to what layers compute on
        calibration data: ``gptq``, ``quantease`` or ``adaround`` (passes/quantize/rounding).
    weight_range: what the integers of weights span: all weights (``max``), or as much as gives the least
        squared error of the weights (``mse``) or of what the layer computes (``output``).
    bias_correction: take the mean error of rounding out of the bias: that of the weights alone
        (``analytic``), or of the whole model up to there, layer after layer (``empirical``); or ``none``.
    compensate: let each layer take back, as far as it can, what the layers before it do wrong.
    reconstruct_steps: so many steps of gradient descent on the roundings of each block of layers together
        (BRECQ; needs PyTorch, irshrink[pytorch]).
    damping: what is added to the diagonal of a layer's second moments, as a share of its mean.
    keep_float: nodes that stay float, by name or operator type; ``*`` and ``?`` as in file names.
    max_samples: use at most so many samples, at even distances; None for all.
    """

    name: ClassVar[str] = "quantize-int8"
    lossy: ClassVar[bool] = True

    method: Literal["minmax", "percentile", "entropy", "mse", "output"] = "percentile"
    percentile: float = 99.999
    activations: Literal["asymmetric", "symmetric"] = "asymmetric"
    activation_bits: qparams.Bits = 8
    weight_bits: Bits = 8
    layer_bits: dict[str, Bits] = field(default_factory=dict)
    layer_activation_bits: dict[str, qparams.Bits] = field(default_factory=dict)
    per_channel: bool = True
    rounding: RoundingName = "nearest"
    weight_range: WeightRange = "max"
    bias_correction: BiasCorrection = "analytic"
    compensate: bool = False
    reconstruct_steps: int = 0
    damping: float = 0.01
    keep_float: tuple[str, ...] = ()
    max_samples: int | None = None

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}; it must be above 50 and at most 100")
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"max_samples is {self.max_samples}; at least one sample is needed")
        if not 0 < self.damping <= 1:
            raise ValueError(f"damping is {self.damping}; it must be above 0 and at most 1")

        if self.reconstruct_steps < 0:
            raise ValueError(f"reconstruct_steps is {self.reconstruct_steps}; it cannot be negative")

    def run(self, module: Module, ctx: Context) -> PassResult:
        samples = self._samples(module)
        if self.reconstruct_steps:
            require_torch()
        require_matches(module.graph, tuple(self.layer_bits), "layer_bits")
        require_matches(module.graph, tuple(self.layer_activation_bits), "layer_activation_bits")
        raised = raise_opset(module, self._opset())
        infer_shapes(module.model)
        plan = make_plan(module.graph, self.keep_float, ctx.note)
        if not plan.nodes:
            ctx.note("nothing is quantized: no operator has an int8 form")
            return PassResult(raised, stats={"int8_nodes": 0})
        scales = self._activations(module, samples, plan, ctx)
        refinement = self._refinement()
        settles = refinement.is_needed or self.reconstruct_steps > 0
        reference = module.clone() if settles else None
        layers = [] if reference is None else self._layers(module, reference, plan, scales)
        writer = QdqWriter(module.graph)
        constants = ConstantQuantizer(
            plan,
            scales,
            {} if refinement.is_needed else self._means(module, samples, plan, ctx),
            self.per_channel,
            self.activations == "symmetric",
            self.bits_of,
            refinement.is_needed and self.bias_correction != "none",
            writer,
        )
        for node in plan.nodes:
            constants.quantize(node)
        if constants.raised:
            ctx.note(
                f"{listed(constants.raised)}: channels with a bias that is large against their weights got a "
                "larger weight scale, so that the bias fits int32"
            )
        scales.write(writer)
        for name in scales.dead:
            ctx.note(f"value '{name}' is 0 on every calibration sample: its scale is set to 1")
        drop_unread_constants(module.graph)
        if reference is not None:
            self._settle(reference, module, layers, samples, ctx)
        stats = {
            "int8_nodes": len(plan.nodes),
            "scales": len(plan.roots()),
            "samples": len(samples),
            "method": self.method,
        }
        return PassResult(True, stats=stats)

    def bits_of(self, node: ir.Node) -> int:
        """Bits of the weights of a node."""
        fitting = (bits for pattern, bits in self.layer_bits.items() if matches(node, [pattern]))
        return next(fitting, self.weight_bits)

    def _activation_bits_of(self, node: ir.Node) -> qparams.Bits | None:
        """Bits of what a node reads and writes, where a pattern says so."""
        named = self.layer_activation_bits.items()
        return next((bits for pattern, bits in named if matches(node, [pattern])), None)

    def _opset(self) -> int:
        """The least that has all the types."""
        wide = 16 in (self.activation_bits, *self.layer_activation_bits.values())
        weights = [OPSETS[bits] for bits in (self.weight_bits, *self.layer_bits.values())]
        return max(*weights, INT16_OPSET if wide else 0)

    def _settle(
        self, reference: Module, module: Module, layers: Sequence[Layer], samples: Samples, ctx: Context
    ) -> None:
        """Choose integers again by what layers compute, or take over those of another variant."""
        if module.taken_over is not None:
            settled = module.taken_over.step_of(self.name)
            for layer in layers:
                if layer.key in settled:
                    write_layer(layer, settled[layer.key])
            return
        refinement = self._refinement()
        if refinement.is_needed:
            refinement.run(reference, module, layers, samples, ctx)
        if self.reconstruct_steps:
            reconstruct(reference, module, layers, samples, self.reconstruct_steps, ctx)
        module.measured.steps[self.name] = {layer.key: read_layer(layer) for layer in layers}

    def _refinement(self) -> Refinement:
        return Refinement(
            self.rounding, self.weight_range, self.bias_correction, self.compensate, self.damping
        )

    def _layers(self, module: Module, reference: Module, plan: Plan, scales: Scales) -> list[Layer]:
        """The layers with weights, in the order of the graph, beside those of the float model."""
        layers = []
        for node, original in zip(module.graph, reference.graph, strict=True):
            weight = linear_weight(node) if node in plan.nodes else None
            if weight is None:
                continue
            source = node.inputs[0]
            assert source is not None, "rules.py quantizes no node without its first input"
            per_channel = self.per_channel and output_axis(node, weight) is not None
            scale = scales.read(node, source).scale
            layers.append(Layer(node, original, scale, per_channel, self.bits_of(node)))
        return layers

    def _samples(self, module: Module) -> Samples:
        if module.calibration is None:
            raise RecipeError(
                "quantize-int8 needs calibration data. "
                "Give --calibration with an .npz file or a folder of images."
            )
        if self.max_samples is None:
            return module.calibration
        return module.calibration.spread(self.max_samples)

    def _activations(self, module: Module, samples: Samples, plan: Plan, ctx: Context) -> Scales:
        """The scale of every value."""
        widths = widths_of(plan, self._activation_bits_of, self.activation_bits)
        scales = Scales(plan, widths, self.activations == "symmetric")
        scales.ranges = calibrate(
            module,
            samples,
            CalibrationMethod(self.method, self.percentile, self.activations == "symmetric"),
            [str(root.name) for root in plan.roots() if not scales.is_fixed(root)],
            unclipped={str(root.name) for root in plan.never_clipped()},
            functions=functions_behind(module, plan),
            progress=lambda done, total: ctx.progress(f"calibrating, run {done:,} of {total:,}"),
        )
        return scales

    def _means(self, module: Module, samples: Samples, plan: Plan, ctx: Context) -> dict[str, Array]:
        """Mean per channel of what layers with weights read, for bias correction."""
        if self.bias_correction == "none":
            return {}
        linear = [node for node in plan.nodes if node.op_type in ("Conv", "ConvTranspose", "Gemm")]
        names = [str(value.name) for node in linear if (value := node.inputs[0]) is not None]
        return channel_means(
            module,
            samples,
            list(dict.fromkeys(names)),
            progress=lambda done, total: ctx.progress(f"correcting biases, run {done:,} of {total:,}"),
        )
