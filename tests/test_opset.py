"""Raising the operator set must not change what a model computes; ONNX's converter alone does at times."""

from __future__ import annotations

import numpy as np
import pytest

from irshrink import onnxrt
from irshrink.graph.edit import opset
from irshrink.module import Module, module_from_text
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.target import load_target
from irshrink.verify import verify_structure

RESIZE = "(float[1, 1, 7, 7] x) => (float[1, 1, N, M] y) <float[4] s = {{1, 1, {}, {}}}>"
#: The first opset of the model and its text, by what is old about it.
FORMS = {
    "Upsample 7, linear": (
        7,
        "(float[1, 1, 3, 4] x) => (float[1, 1, 6, 8] y)",
        'y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 2.0]> (x)',
    ),
    "Upsample 9, linear": (9, RESIZE.format("2", "1.5"), 'y = Upsample <mode = "linear"> (x, s)'),
    "Upsample 9, nearest": (9, RESIZE.format("1.7", "1.4"), 'y = Upsample <mode = "nearest"> (x, s)'),
    "Resize 10, larger": (10, RESIZE.format("1.7", "1"), 'y = Resize <mode = "nearest"> (x, s)'),
    "Resize 10, smaller": (10, RESIZE.format("0.6", "0.3"), 'y = Resize <mode = "nearest"> (x, s)'),
    "Resize 10, both": (10, RESIZE.format("1.7", "0.6"), 'y = Resize <mode = "linear"> (x, s)'),
    "Hardmax 11": (11, "(float[2, 3, 4] x) => (float[2, 3, 4] y)", "y = Hardmax <axis = 0> (x)"),
    "Softmax 11": (11, "(float[2, 3, 4] x) => (float[2, 3, 4] y)", "y = Softmax <axis = 1> (x)"),
    "Pad 7": (7, "(float[2, 3] x) => (float[4, 5] y)", "y = Pad <pads = [1, 1, 1, 1], value = 2.0> (x)"),
    "Clip 7": (7, "(float[2, 3] x) => (float[2, 3] y)", "y = Clip <max = 0.5> (x)"),
    "Slice 7": (
        7,
        "(float[4, 5] x) => (float[2, 3] y)",
        "y = Slice <axes = [0, 1], starts = [1, -4], ends = [3, -1]> (x)",
    ),
    "TopK 7": (7, "(float[2, 5] x) => (float[2, 3] y, int64[2, 3] i)", "y, i = TopK <k = 3> (x)"),
    "Split 11": (
        11,
        "(float[4, 3] x) => (float[1, 3] y, float[3, 3] z)",
        "y, z = Split <split = [1, 3]> (x)",
    ),
    "ReduceMean 7": (
        7,
        "(float[2, 3, 4] x) => (float[2] y)",
        "y = ReduceMean <axes = [1, 2], keepdims = 0> (x)",
    ),
    "Dropout 7": (7, "(float[2, 3] x) => (float[2, 3] y)", "a = Dropout (x) y = Relu (a)"),
    "Squeeze in an If": (
        9,
        "(float[1, 2] x) => (float[2] y) <float zero = {0}>",
        """n = ReduceSum <keepdims = 0> (x)
        c = Greater (n, zero)
        y = If (c) <
           then_branch = t () => (float[2] u) { u = Squeeze <axes = [0]> (x) },
           else_branch = e () => (float[2] v) { v = ReduceSum <axes = [0], keepdims = 0> (x) }
        >""",
    ),
}


def parsed(version: int, signature: str, body: str) -> Module:
    return module_from_text(f'<ir_version: 6, opset_import: ["" : {version}]>\ng {signature} {{ {body} }}')


def outputs(module: Module) -> list[np.ndarray]:
    (value,) = module.graph.inputs
    assert value.shape is not None
    x = np.random.default_rng(0).standard_normal(value.shape.numpy()).astype(np.float32)
    return list(onnxrt.run(onnxrt.session(module.model, optimize=False), {"x": x}).values())


def cleaned(module: Module) -> list[str]:
    """Clean up in place; returns what the passes had to say."""
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, load_target("host"))
    return [note for record in module.history for note in record.notes]


@pytest.mark.parametrize("name", FORMS)
def test_old_forms_mean_what_they_meant(name: str) -> None:
    module = parsed(*FORMS[name])
    before = outputs(module)
    cleaned(module)
    assert opset(module.graph) == 20
    for old, new in zip(before, outputs(module), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("version", "signature", "body", "reason"),
    [
        (
            10,
            RESIZE.format("1.7", "0.6"),
            'y = Resize <mode = "nearest"> (x, s)',
            "Resize 'y' enlarges one axis and shrinks another, and rounds both ways.",
        ),
        (
            10,
            "(float[1, 1, 2, 2] x, float[4] s) => (float[1, 1, N, M] y)",
            'y = Resize <mode = "nearest"> (x, s)',
            "the scales of Resize 'y' are not constant.",
        ),
        (
            10,
            "(float[2] x) => (float[2] y, bool[2] m)",
            "y, m = Dropout (x)",
            "the mask of Dropout 'y' is used, which means something else since opset 12.",
        ),
        (
            8,
            "(float[1, 3, 2] x, float[1, 2] a) => (float[1, 2] b, float[1, 3, 2] y)",
            """b, y = Scan <num_scan_inputs = 1, body = s (float[2] old, float[2] row) =>
               (float[2] new, float[2] out) { new = Add (old, row) out = Identity (new) }> (, a, x)""",
            "Scan 'b' has a batch axis, which Scan has no longer since opset 9.",
        ),
        (
            9,
            "(float[1, 2, 2, 2] x) => (float[1, 2, 2, 2] y)",
            "y = MeanVarianceNormalization (x)",
            "Constant",
        ),
    ],
)
def test_what_cannot_be_converted_stays(version: int, signature: str, body: str, reason: str) -> None:
    module = parsed(version, signature, body)
    notes = cleaned(module)
    assert opset(module.graph) == version
    assert any(f"stays at opset {version}: opset {version} cannot be converted to 20: " in n for n in notes)
    assert any(reason in note for note in notes), notes
