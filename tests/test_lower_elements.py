"""Integers, truth values, indices, recurrent layers: lowered graphs against ONNX Runtime, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irshrink import onnxrt
from irshrink.errors import SamplesError
from irshrink.module import Module, module_from_text
from irshrink.ports import decode, encode_inputs
from irshrink.program import ops
from irshrink.program.lower import lower, unsupported
from irshrink.program.program import Program
from irshrink.program.reference import run_program

Array = np.ndarray[Any, np.dtype[Any]]


def graph(signature: str, body: str, initializers: str = "", opset: int = 18) -> Module:
    """A module from the parts of ONNX's textual syntax."""
    constants = f"<{initializers}>" if initializers else ""
    return module_from_text(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g {signature} {constants} {{ {body} }}'
    )


def outputs(program: Program, feeds: dict[str, Array]) -> dict[str, Array]:
    stored = run_program(program, encode_inputs(program, feeds))
    ports = program.outputs
    return {port.name: decode(program, port, array) for port, array in zip(ports, stored, strict=True)}


def assert_like_onnxruntime(module: Module, **feeds: Array) -> Program:
    """The same values, types and shapes of all outputs."""
    wanted = onnxrt.run(onnxrt.session(module.model), feeds)
    program = lower(module)
    for name, array in outputs(program, feeds).items():
        assert (array.dtype, array.shape) == (wanted[name].dtype, wanted[name].shape), name
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
    return program


RNG = np.random.default_rng(0)
IDS = RNG.integers(-5, 6, (2, 3)).astype(np.int64)


class TestIntegers:
    @pytest.mark.parametrize("element", ["int32", "int64", "uint8", "int8"])
    def test_arithmetic(self, element: str) -> None:
        module = graph(
            f"({element}[2,3] a, {element}[3] b) => ({element}[2,3] y, bool[2,3] z)",
            "s = Add(a, b) m = Mul(s, b) d = Div(m, b) y = Sub(d, a) z = Less(a, y)",
        )
        a, b = RNG.integers(1, 100, (2, 3)), RNG.integers(1, 9, 3)
        assert_like_onnxruntime(module, a=a.astype(element), b=b.astype(element))

    def test_a_mask_like_that_of_attention(self) -> None:
        module = graph(
            "(int64[2,3] ids, float[2,3] x) => (float[2,3] y, bool[2,3] m, int64[2,3] n)",
            "p = Greater(ids, zero) q = Less(ids, two) r = Or(p, q) m = Not(r)"
            "y = Where(m, low, x) c = Cast <to = 7> (m) n = Add(c, ids)",
            "int64 zero = {0}, int64 two = {-2}, float low = {-3.0e38}",
        )
        assert_like_onnxruntime(module, ids=IDS, x=RNG.normal(size=(2, 3)).astype(np.float32))

    @pytest.mark.parametrize("to", [1, 2, 3, 6, 7, 9, 10, 11])
    @pytest.mark.parametrize("element", ["float", "int64", "uint8", "bool", "double"])
    def test_casts(self, element: str, to: int) -> None:
        kind = {
            1: "float",
            2: "uint8",
            3: "int8",
            6: "int32",
            7: "int64",
            9: "bool",
            10: "float16",
            11: "double",
        }
        module = graph(f"({element}[4] x) => ({kind[to]}[4] y)", f"y = Cast <to = {to}> (x)")
        given = {"float": "float32", "double": "float64"}.get(element, element)
        assert_like_onnxruntime(module, x=np.array([0, 1, 7, 100]).astype(given))

    def test_reductions_and_clips(self) -> None:
        module = graph(
            "(int32[2,3] x) => (int32[2,1] s, int32[3] m, int32[2,3] c)",
            "s = ReduceSum(x, one) m = ReduceMax <keepdims = 0> (x, zero) c = Clip(x, low, high)",
            "int64[1] one = {1}, int64[1] zero = {0}, int32 low = {-2}, int32 high = {3}",
        )
        assert_like_onnxruntime(module, x=IDS.astype(np.int32))

    def test_variadic(self) -> None:
        module = graph(
            "(float[2,3] a, float[3] b, float[2,1] c) => (float[2,3] y, float[2,3] z)",
            "y = Sum(a, b, c) z = Mean(a, b, c)",
        )
        shapes = {"a": (2, 3), "b": (3,), "c": (2, 1)}
        assert_like_onnxruntime(
            module, **{k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        )

    def test_no_bound_is_the_largest_number(self) -> None:
        text = "y = Min(x, k)", "int64 k = {9223372036854775807}"
        program = lower(graph("(int64[2,3] x) => (int64[2,3] y)", *text))
        assert [array.item() for array in program.constants.values()] == [2**31 - 1]

    def test_a_constant_must_fit(self) -> None:
        found = unsupported(graph("(int64[1] x) => (int64[1] y)", "y = Add(x, k)", "int64 k = {4294967296}"))
        assert "its constant 'k' does not fit 32 bits. Integers (int64) are 32 bits" in str(found[0])


class TestPorts:
    MODULE = graph("(int64[3] x, bool[3] m) => (int64[3] y)", "y = Where(m, x, k)", "int64 k = {7}")

    def test_types_of_the_model_and_of_the_target(self) -> None:
        program = lower(self.MODULE)
        assert [(p.element, program.tensors[p.tensor].dtype) for p in program.inputs] == [
            ("int64", "int32"),
            ("bool", "uint8"),
        ]
        x, m = np.array([1, -2, 3]), np.array([True, False, True])
        for dtype, truth in ((np.int64, np.bool_), (np.int32, np.uint8), (np.int16, np.int64)):
            y = outputs(program, {"x": x.astype(dtype), "m": m.astype(truth)})["y"]
            assert y.dtype == np.int64
            assert y.tolist() == [1, 7, 3]
        assert "Input 'x' is int64 in the model: it is int32 on the target." in program.notes

    @pytest.mark.parametrize(
        ("x", "m", "reason"),
        [
            (
                [1, 2**31, 3],
                [0, 1, 1],
                "'x' holds 1 to 2147483648; the target takes -2147483648 to 2147483647",
            ),
            ([1.5, 2.0, 3.0], [0, 1, 1], "'x' takes int64, the array is float64"),
            ([1, 2, 3], [0, 2, 1], "'m' holds 0 to 2; the target takes 0 to 1"),
        ],
    )
    def test_what_does_not_fit(self, x: list[float], m: list[int], reason: str) -> None:
        with pytest.raises(SamplesError, match=reason):
            encode_inputs(lower(self.MODULE), {"x": np.array(x), "m": np.array(m)})

    def test_other_floats_are_said_aloud(self) -> None:
        module = graph("(double[2] x) => (float16[2] y)", "a = Add(x, x) y = Cast <to = 10> (a)")
        program = assert_like_onnxruntime(module, x=np.array([0.5, 2.0]))
        assert "Numbers that are float64 in the model are float32 on the target." in program.notes
        assert "Numbers that are float16 in the model are float32 on the target." in program.notes


class TestIndices:
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_gather(self, axis: int) -> None:
        module = graph("(float[5,6,5] x, int64[2,3] i) => (float y)", f"y = Gather <axis = {axis}> (x, i)")
        assert_like_onnxruntime(module, x=RNG.normal(size=(5, 6, 5)).astype(np.float32), i=IDS.clip(-5, 4))

    def test_a_quantized_table_stays_in_int8(self) -> None:
        module = graph(
            "(int64[2] i) => (float[2,3] y)",
            "t = DequantizeLinear(k, s, z) y = Gather(t, i)",
            "int8[4,3] k = {1,2,3,4,5,6,7,8,9,10,11,12}, float s = {0.5}, int8 z = {1}",
        )
        program = assert_like_onnxruntime(module, i=np.array([2, -1]))
        kinds = [type(op).__name__ for op in program if not isinstance(op, ops.Reshape)]
        assert kinds == ["Gather"]  # the caller dequantizes
        assert [array.dtype for array in program.constants.values()] == [np.int8]

    def test_a_table_with_a_scale_a_row_stays_in_int8(self) -> None:
        module = graph(
            "(int64[2] i) => (float[2,3] y)",
            "t = DequantizeLinear <axis = 0> (k, s) y = Gather(t, i)",
            "int8[4,3] k = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4] s = {0.5, 0.25, 1.0, 2.0}",
        )
        program = assert_like_onnxruntime(module, i=np.array([2, -1]))
        [op] = [op for op in program if not isinstance(op, ops.Reshape)]
        assert isinstance(op, ops.GatherRows)
        assert isinstance(op.codes, ops.WeightCodes)
        assert (op.codes.integers.dtype, op.codes.integers.size, op.codes.scale.size) == (np.int8, 12, 4)

    def test_an_index_outside_is_the_nearest_end(self) -> None:
        module = graph("(int32[3] i, float[4] x) => (float[3] y)", "y = Gather(x, i)")
        feeds = {"i": np.array([4, -5, 2**31 - 1], np.int32), "x": np.arange(4, dtype=np.float32)}
        assert outputs(lower(module), feeds)["y"].tolist() == [3, 0, 3]

    def test_scatters_and_one_hot(self) -> None:
        module = graph(
            "(float[4,3] x, int64[2,1] i, float[2,3] u) => (float[4,3] y, float[4,3] z, float h)",
            'y = ScatterND(x, i, u) e = Expand(i, shape) z = ScatterElements <reduction = "add"> (x, e, u)'
            "h = OneHot(i, four, values)",
            "int64[2] shape = {2, 3}, int64 four = {4}, float[2] values = {-1.0, 1.0}",
        )
        x, u = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3), (2, 3)))
        module.graph.outputs[2].shape = None
        assert_like_onnxruntime(module, x=x, i=np.array([[3], [1]]), u=u)

    def test_top_k_and_argmax(self) -> None:
        module = graph(
            "(float[2,7,3] x) => (float[2,4,3] v, int64[2,4,3] i, int64[2,3] a)",
            "v, i = TopK <axis = 1> (x, four) a = ArgMax <axis = 1, keepdims = 0> (x)",
            "int64[1] four = {4}",
        )
        assert_like_onnxruntime(module, x=RNG.integers(0, 4, (2, 7, 3)).astype(np.float32))

    def test_sizes_that_depend_on_data(self) -> None:
        found = unsupported(graph("(float[3] x) => (int64[1,N] y)", "y = NonZero(x)"))
        assert "The size of its result is not known before it runs" in str(found[0])


def recurrent(kind: str, attributes: str, directions: int, *, layout: int = 0) -> Module:
    """A layer of 5 cells over inputs [4, 2, 3] ([2, 4, 3] with layout 1), states as inputs and outputs."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    state = f"float[{f'2,{directions}' if layout else f'{directions},2'},5]"
    states, c = ("h", "n") if kind != "LSTM" else ("h, c", "n, k")
    signature = f"({'float[2,4,3]' if layout else 'float[4,2,3]'} x, {state} h"
    signature += (
        f", {state} c) => (float y, float n, float k)" if kind == "LSTM" else ") => (float y, float n)"
    )
    module = graph(
        signature,
        f"y, {c} = {kind} <hidden_size = 5, layout = {layout} {attributes}> (x, w, r, b, , {states})",
        ", ".join(
            f"float[{directions},{gates * 5},{size}] {name} = {{{_numbers(directions * gates * 5 * size)}}}"
            for name, size in (("w", 3), ("r", 5))
        )
        + f", float[{directions},{gates * 10}] b = {{{_numbers(directions * gates * 10)}}}",
    )
    for value in module.graph.outputs:
        value.shape = None
    return module


def _numbers(count: int) -> str:
    return ", ".join(f"{number:.3f}" for number in RNG.normal(0, 0.5, count))


class TestRecurrent:
    @pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
    @pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
    def test_directions(self, kind: str, direction: str) -> None:
        directions = 2 if direction == "bidirectional" else 1
        module = recurrent(kind, f', direction = "{direction}"', directions)
        shapes = {"x": (4, 2, 3), "h": (directions, 2, 5), "c": (directions, 2, 5)}
        names = [value.name or "" for value in module.graph.inputs]
        feeds = {name: RNG.normal(size=shapes[name]).astype(np.float32) for name in names}
        program = assert_like_onnxruntime(module, **feeds)
        assert sum(isinstance(op, ops.RecurrentF32) for op in program) == directions

    @pytest.mark.parametrize(
        ("kind", "attributes"),
        [
            ("GRU", ", linear_before_reset = 1"),
            (
                "LSTM",
                ', clip = 0.5, activations = ["HardSigmoid", "Relu", "Affine"]'
                ", activation_alpha = [0.2, 0.9], activation_beta = [0.5, 0.1]",
            ),
            ("RNN", ', activations = ["LeakyRelu"], activation_alpha = [0.25]'),
        ],
    )
    def test_attributes(self, kind: str, attributes: str) -> None:
        module = recurrent(kind, attributes, 1)
        names = [value.name or "" for value in module.graph.inputs]
        feeds = {
            name: RNG.normal(size=(4, 2, 3) if name == "x" else (1, 2, 5)).astype(np.float32)
            for name in names
        }
        assert_like_onnxruntime(module, **feeds)

    def test_sequences_first(self) -> None:
        """ONNX Runtime has no layout 1: the same layer with its axes exchanged says what is right."""
        given = RNG.bit_generator.state
        program = lower(recurrent("GRU", "", 1, layout=1))
        RNG.bit_generator.state = given
        plain = lower(recurrent("GRU", "", 1))
        x, h = RNG.normal(size=(4, 2, 3)).astype(np.float32), np.zeros((1, 2, 5), np.float32)
        wanted = outputs(plain, {"x": x, "h": h})
        found = outputs(program, {"x": x.transpose(1, 0, 2), "h": h.transpose(1, 0, 2)})
        np.testing.assert_array_equal(found["y"], wanted["y"].transpose(2, 0, 1, 3))
        np.testing.assert_array_equal(found["n"], wanted["n"].transpose(1, 0, 2))

    def test_refusals(self) -> None:
        module = recurrent("RNN", ', activations = ["Softsign"]', 1)
        assert "there is no kernel for its activation Softsign" in str(unsupported(module)[0])


class TestComputed:
    def test_constants_that_folding_left(self) -> None:
        module = graph(
            "(float[4,2] x) => (float[4,2] y)",
            "a = Slice(k, zero, two) b = Slice(k, two, end) c = Concat <axis = 0> (b, a)"
            "s = ConstantOfShape <value = float[1] {2.0}> (shape) d = Mul(c, s) y = Add(x, d)",
            "float[4,2] k = {1,2,3,4,5,6,7,8}, int64[1] zero = {0}, int64[1] two = {2}, "
            "int64[1] end = {9223372036854775807}, int64[2] shape = {4, 2}",
        )
        assert_like_onnxruntime(module, x=np.zeros((4, 2), np.float32))


class TestProducts:
    @pytest.mark.parametrize(
        ("a", "b", "y"),
        [
            ("2,3,4", "4,5", "2,3,5"),
            ("1,3,4", "2,4,5", "2,3,5"),
            ("2,1,3,4", "3,4,5", "2,3,3,5"),
            ("4", "4,5", "5"),
            ("2,3,4", "4", "2,3"),
            ("4", "4", ""),
        ],
    )
    def test_batches_broadcast(self, a: str, b: str, y: str) -> None:
        module = graph(f"(float[{a}] a, float[{b}] b) => (float[{y}] y)", "y = MatMul(a, b)")
        shapes = {"a": a, "b": b}
        assert_like_onnxruntime(
            module,
            **{
                name: RNG.normal(size=[int(n) for n in text.split(",")]).astype(np.float32)
                for name, text in shapes.items()
            },
        )

    def test_gemm_of_computed_matrices(self) -> None:
        module = graph(
            "(float[4,3] a, float[5,4] b, float[3,1] c) => (float[3,5] y)",
            "y = Gemm <transA = 1, transB = 1, alpha = 0.5, beta = 2.0> (a, b, c)",
        )
        shapes = {"a": (4, 3), "b": (5, 4), "c": (3, 1)}
        assert_like_onnxruntime(
            module, **{k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        )

    def test_layer_norm_with_computed_scales(self) -> None:
        module = graph(
            "(float[2,3,4] x, float[4] g, float[3,4] b) => (float[2,3,4] y)",
            "y = LayerNormalization <axis = -1> (x, g, b)",
        )
        shapes = {"x": (2, 3, 4), "g": (4,), "b": (3, 4)}
        assert_like_onnxruntime(
            module, **{k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        )


def test_masks() -> None:
    module = graph(
        "(float[2,3,4] x, int64[3,4] n) => (float[2,3,4] y, float[2,3,4] h, int64[3,4] l, int64[3,4] e)",
        "y = Trilu(x, one) h = Hardmax <axis = 1> (x) l = Trilu <upper = 0> (n) e = EyeLike <k = 1> (n)",
        "int64 one = {1}",
    )
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    assert_like_onnxruntime(module, x=x, n=RNG.integers(-9, 9, (3, 4)))
