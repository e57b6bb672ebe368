"""Native code in another process: its answers, its refusals, and its deaths."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from irshrink.errors import ModelError, NativeError
from irshrink.isolation import client
from irshrink.isolation.client import StepError, call
from irshrink.isolation.evaluate import evaluate_constant

RELU = '<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] y) { y = Relu (x) }'


@pytest.fixture
def no_peer() -> None:
    """Whoever was there is gone, before and after."""
    client._close()


def model(text: str = RELU) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_the_same_process_answers_again_and_after_it_was_killed() -> None:
    assert call("check", model()) == []
    first = client._current[0]
    call("check", model())
    assert client._current[0] is first
    first.kill()
    assert call("check", model()) == []
    assert client._current[0] is not first


def test_a_refusal_is_the_libraries_own() -> None:
    with pytest.raises(StepError, match="No Op registered for Rleu"):
        call("check", model(RELU.replace("Relu", "Rleu")))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.abort()", r"ONNX's shape inference crashed \(SIGABRT\) on this model"),
        ("import time; time.sleep(60)", "ONNX's shape inference did not come to an end"),
        ("raise SystemExit(3)", "ONNX's shape inference ended with exit code 3"),
    ],
)
def test_a_death_is_a_sentence(
    program: str, message: str, no_peer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(client, "_PROGRAM", program)
        with pytest.raises(NativeError, match=message):
            call("infer", model(), seconds=2.0)
    assert call("check", model()) == []


def test_constants_are_evaluated() -> None:
    graph = "g () => (float[3] y, bool[3] z) { a = Constant <value_floats = [1.0, -2.0, 3.0]> () "
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> {graph} y = Relu (a) z = Less (a, y) }}'
    )
    y, z = evaluate_constant(ir.from_proto(proto))
    np.testing.assert_array_equal(y, np.array([1, 0, 3], np.float32))
    np.testing.assert_array_equal(z, [False, True, False])


def test_a_constant_that_fills_memory_is_refused() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> g () => (float[N] y)
        { s = Constant <value_ints = [1000000000000]> () y = ConstantOfShape (s) }"""
    with pytest.raises(ModelError):
        evaluate_constant(ir.from_proto(onnx.parser.parse_model(text)))


def test_a_constant_that_never_ends_is_stopped() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> g () => (float[1, 1, 64, 64] y)
        { s = Constant <value_ints = [1, 1, 64, 64]> () x = ConstantOfShape (s)
          y = AveragePool <kernel_shape = [2147483647, 3], auto_pad = "SAME_UPPER"> (x) }"""
    with pytest.raises(NativeError, match="did not come to an end"):
        evaluate_constant(ir.from_proto(onnx.parser.parse_model(text)))
