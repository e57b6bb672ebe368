"""Static shapes of inputs: given, following from one another, or asked for with the dimensions' names."""

from __future__ import annotations

import pytest

from irshrink.errors import ModelError, RecipeError
from irshrink.module import Module, module_from_text
from irshrink.static_shapes import fix_input_shapes


def parsed(inputs: str) -> Module:
    body = "out = Constant <value_floats = [1.0]> ()"
    return module_from_text(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[1] out) {{ {body} }}'
    )


def shapes(module: Module) -> dict[str, list[int]]:
    return {str(v.name): list(v.shape.numpy()) for v in module.graph.inputs if v.shape is not None}


def test_a_shape_decides_those_of_the_same_names() -> None:
    module = parsed("int64[batch, sequence] ids, int64[batch, sequence] mask, float[1, sequence] weights")
    notes = fix_input_shapes(module, {"ids": [2, 128]})
    assert shapes(module) == {"ids": [2, 128], "mask": [2, 128], "weights": [1, 128]}
    assert notes == [
        "Input 'ids' was given the shape [2, 128].",
        "Input 'mask': the shape [2, 128] follows from the others.",
        "Input 'weights': the shape [1, 128] follows from the others.",
    ]


def test_the_batch_alone_is_one() -> None:
    module = parsed("float[N, 3] x, float[4] y, float s")
    assert fix_input_shapes(module, {}) == ["Input 'x': the open batch dimension was set to 1."]
    assert shapes(module) == {"x": [1, 3], "y": [4], "s": []}


def test_names_that_mean_nothing_decide_nothing() -> None:
    module = parsed("float[None, 3] x, float[2, None] y")
    with pytest.raises(ModelError, match=r"input 'y' has the dynamic shape \[2, None\]"):
        fix_input_shapes(module, {"x": [1, 3]})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            "float[N, 3, H, W] x",
            r"input 'x' has the dynamic shape \[N, 3, H, W\]. Give its sizes: --shape x=1,3,H,W with numbers "
            r"for H, W\.",
        ),
        (
            "int64[b, s] ids, int64[b, s] mask, float[b] scale",
            r"inputs have dynamic shapes: 'ids' \[b, s\], 'mask' \[b, s\]. Give their sizes: --shape ids=1,s "
            r"with numbers for s\.",
        ),
        (
            "float[1, H] x, float[1, W, H] y",
            r"Give their sizes: --shape x=1,H --shape y=1,W,H with numbers for H, W\.",
        ),
    ],
)
def test_open_dimensions_are_named(inputs: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fix_input_shapes(parsed(inputs), {})


@pytest.mark.parametrize("wanted", [[1, 3], [1, 4, 8]])
def test_a_shape_that_does_not_fit(wanted: list[int]) -> None:
    with pytest.raises(RecipeError, match=r"contradicts the shape \[N, 3, H\]"):
        fix_input_shapes(parsed("float[N, 3, H] x"), {"x": wanted})


def test_an_input_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r"the model has no input 'xx'\. Did you mean 'x'"):
        fix_input_shapes(parsed("float[N] x"), {"xx": [1]})
