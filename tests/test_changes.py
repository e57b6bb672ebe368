"""The record of what passes take away from layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from irshrink.changes import STATS_KEY, ChangeLog, LayerSize
from irshrink.errors import InternalError
from irshrink.graph.edit import set_constant
from irshrink.graph.shapes import infer_shapes
from irshrink.layer_cost import Cost, total
from irshrink.module import Module, module_from_text
from irshrink.testing.small_net import small_net

TWO_LAYERS = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 4] x) => (float[1, 2] y)
   <float[4, 3] w, float[3, 2] v>
{
   [first] a = MatMul (x, w)
   [second] y = MatMul (a, v)
}"""


def two_layers() -> Module:
    module = module_from_text(TWO_LAYERS)
    first, second = module.graph
    set_constant(first, 1, np.ones((4, 3), np.float32), "w")
    set_constant(second, 1, np.ones((3, 2), np.float32), "v")
    first.outputs[0].shape, first.outputs[0].dtype = ir.Shape([1, 3]), ir.DataType.FLOAT
    return module


def prune(module: Module) -> None:
    """Two of the three channels between the layers remain."""
    first, second = module.graph
    set_constant(first, 1, np.ones((4, 2), np.float32), "w")
    set_constant(second, 1, np.ones((2, 2), np.float32), "v")
    first.outputs[0].shape = ir.Shape([1, 2])


def test_a_layer_with_a_reason_and_its_reader_have_rows() -> None:
    module = two_layers()
    log = ChangeLog(module.graph)
    prune(module)
    log.because("first", kind="channels", score="l2", output_error=0.25)
    first, second = log.changes(module.graph)
    assert (first.layer, first.kind, first.score, first.output_error) == ("first", "channels", "l2", 0.25)
    assert first.detail == "weights 4x3 became 4x2"
    assert first.before == LayerSize((4, 3), 48, 12, 12)
    assert first.after == LayerSize((4, 2), 32, 8, 8)
    assert (second.layer, second.kind, second.detail) == ("second", None, "weights 3x2 became 2x2")


def test_what_did_not_change_has_no_row_unless_there_is_a_reason() -> None:
    module = two_layers()
    log = ChangeLog(module.graph)
    assert log.changes(module.graph) == []
    log.because("second", kind="zeros", detail="4 of 6 weights are zero", score="magnitude")
    assert [row.detail for row in log.changes(module.graph)] == ["4 of 6 weights are zero"]


def test_a_layer_can_become_several_or_none() -> None:
    module = two_layers()
    log = ChangeLog(module.graph)
    first, second = module.graph
    first.name, second.name = "one", "two"
    log.because("first", kind="rank", detail="rank 2 of 3", into=("one", "two"))
    split, gone = log.changes(module.graph)
    assert split.into == ("one", "two")
    assert (split.after.bytes, split.after.macs) == (72, 18)
    assert (gone.detail, gone.after) == ("removed", LayerSize())


def test_a_reason_for_no_layer_is_a_bug() -> None:
    module = two_layers()
    with pytest.raises(InternalError, match="no layer 'third'"):
        ChangeLog(module.graph).because("third", kind="channels")


def test_statistics_are_plain_data() -> None:
    module = two_layers()
    log = ChangeLog(module.graph)
    prune(module)
    row = log.stats(module.graph)[STATS_KEY][0]
    assert row["before"] == {"weights": (4, 3), "bytes": 48, "macs": 12, "output_bytes": 12}


def test_a_sum_is_predicted_where_a_part_is() -> None:
    parts = [Cost(100, "instructions", "measured"), Cost(300, "instructions", "predicted", 0.04)]
    assert total(parts) == Cost(400, "instructions", "predicted", 0.03)


def test_what_a_convolution_lost_is_said_in_channels() -> None:
    module = small_net()
    infer_shapes(module.model)
    log = ChangeLog(module.graph)
    conv = next(node for node in module.graph if node.name == "node_c1")
    set_constant(conv, 1, np.ones((3, 2, 3, 3), np.float32), "w1")
    log.because("node_c1", kind="channels", score="l1")
    log.because("node_y", kind="channels", score="l1")
    (row,) = log.changes(module.graph)  # the other one kept its size
    assert row.detail == "1 of 4 outputs and 1 of 3 inputs removed"


def test_a_reason_for_all_that_give_less() -> None:
    module = two_layers()
    log = ChangeLog(module.graph)
    prune(module)
    log.otherwise(kind="channels", score="l1")
    first, second = log.changes(module.graph)
    assert (first.kind, first.score, second.kind, second.score) == ("channels", "l1", None, None)
    log.because("first", kind="heads", score="l2")
    assert log.changes(module.graph)[0].kind == "heads"
