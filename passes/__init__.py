"""Every built-in pass: its name on the command line and in recipes, and where it lives."""

BUILTIN_PASSES: dict[str, str] = {
    "cluster-weights": "irshrink.passes.quantize.cluster_weights:ClusterWeights",
    "decompose-dft": "irshrink.passes.decompose_dft:DecomposeDft",
    "decompose-einsum": "irshrink.passes.decompose_einsum:DecomposeEinsum",
    "eliminate-common-subexpressions": (
        "irshrink.passes.eliminate_common_subexpressions:EliminateCommonSubexpressions"
    ),
    "eliminate-dead-code": "irshrink.passes.eliminate_dead_code:EliminateDeadCode",
    "eliminate-identity": "irshrink.passes.eliminate_identity:EliminateIdentity",
    "equalize": "irshrink.passes.quantize.equalize:Equalize",
    "expand-operators": "irshrink.passes.expand_operators:ExpandOperators",
    "fold-affine": "irshrink.passes.fold_affine:FoldAffine",
    "fold-batchnorm": "irshrink.passes.fold_batchnorm:FoldBatchNorm",
    "fold-constants": "irshrink.passes.fold_constants:FoldConstants",
    "fold-pad": "irshrink.passes.fold_pad:FoldPad",
    "fold-reshape-targets": "irshrink.passes.fold_reshape_targets:FoldReshapeTargets",
    "fuse-casts": "irshrink.passes.fuse_casts:FuseCasts",
    "fuse-clips": "irshrink.passes.fuse_clips:FuseClips",
    "fuse-concats": "irshrink.passes.fuse_concats:FuseConcats",
    "fuse-reduces": "irshrink.passes.fuse_reduces:FuseReduces",
    "fuse-reshapes": "irshrink.passes.fuse_reshapes:FuseReshapes",
    "fuse-transposes": "irshrink.passes.fuse_transposes:FuseTransposes",
    "infer-shapes": "irshrink.passes.infer_shapes:InferShapes",
    "inline-functions": "irshrink.passes.inline_functions:InlineFunctions",
    "matmul-add-to-gemm": "irshrink.passes.matmul_add_to_gemm:MatMulAddToGemm",
    "move-transposes": "irshrink.passes.move_transposes:MoveTransposes",
    "qoperator-to-qdq": "irshrink.passes.qoperator_to_qdq:QOperatorToQdq",
    "quantize-int8": "irshrink.passes.quantize.quantize_int8:QuantizeInt8",
    "quantize-weights": "irshrink.passes.quantize.quantize_weights:QuantizeWeights",
    "quantize-mixed": "irshrink.passes.quantize.quantize_mixed:QuantizeMixed",
    "quantize-weights-int8": "irshrink.passes.quantize.quantize_weights_int8:QuantizeWeightsInt8",
    "raise-opset": "irshrink.passes.raise_opset:RaiseOpset",
    "recognize-activations": "irshrink.passes.recognize_activations:RecognizeActivations",
    "recognize-layernorm": "irshrink.passes.recognize_layernorm:RecognizeLayerNorm",
    "remove-initializers-from-inputs": (
        "irshrink.passes.remove_initializers_from_inputs:RemoveInitializersFromInputs"
    ),
    "resolve-control-flow": "irshrink.passes.resolve_control_flow:ResolveControlFlow",
    "squeeze-range-inputs": "irshrink.passes.squeeze_range_inputs:SqueezeRangeInputs",
    "store-weights": "irshrink.passes.quantize.store_weights:StoreWeights",
}
