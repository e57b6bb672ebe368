"""Models whose weights are ONNX's sparse tensors are read as if they were dense, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from irshrink.errors import ModelError
from irshrink.module import load_module


def written(folder: Path, indices: Any, dims: list[int], values: tuple[float, ...] = (1.0, 2.0)) -> Path:
    numbers = numpy_helper.from_array(np.array(values, np.float32), "w")
    places = numpy_helper.from_array(np.array(indices, np.int64), "places")
    shape = [1, dims[0]], [1, dims[1]]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape[1])],
        sparse_initializer=[helper.make_sparse_tensor(numbers, places, dims)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_zeros_are_put_back(indices: Any, tmp_path: Path) -> None:
    module = load_module(written(tmp_path, indices, [2, 3]))
    tensor = module.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), [[0, 1, 0], [0, 0, 2]])


@pytest.mark.parametrize(
    ("indices", "dims", "said"),
    [
        ([1, 6], [2, 3], "has places that its shape"),
        ([[0, 1], [2, 0]], [2, 3], "has places that its shape"),
        ([0, 1], [30_000, 30_000], "is too large to be dense"),
        ([0], [2, 3], "has places that its shape"),
    ],
)
def test_what_cannot_be_is_refused(indices: Any, dims: list[int], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        load_module(written(tmp_path, indices, dims))
