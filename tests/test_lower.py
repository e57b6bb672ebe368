"""What the lowering makes of graphs: operators, layouts, number formats, fusions and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from irshrink.module import Module, module_from_text
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.program.program import Program, Quantization
from irshrink.program.reference import run_program


def graph(signature: str, body: str, initializers: str = "", opset: int = 17) -> Module:
    """A module from the parts of ONNX's textual syntax."""
    constants = f"<{initializers}>" if initializers else ""
    return module_from_text(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g {signature} {constants} {{ {body} }}'
    )


def kinds(program: Program) -> list[str]:
    return [type(op).__name__ for op in program]


SCALES = "float s = {0.5}, int8 z = {3}, float t = {0.25}, int8 u = {-5}"
CONV = (
    "int8[4,2,1,1] wq = {1,2,3,4,5,6,7,-8}, float[4] ws = {0.5,0.25,1.0,2.0}, int8[4] wz = {0,0,0,0}, "
    "int32[4] bq = {1,2,3,4}, float[4] bs = {0.25,0.125,0.5,1.0}, int32[4] bz = {0,0,0,0}"
)
CONV_NODES = """
    w = DequantizeLinear <axis = 0> (wq, ws, wz)
    b = DequantizeLinear <axis = 0> (bq, bs, bz)
"""
#: x quantized and back, as every quantized graph begins.
ENTER = "xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)"


def quantized_conv(between: str = "", last: str = "c", signature: str = "") -> Module:
    """A quantized 1x1 convolution with further nodes in front of its QuantizeLinear."""
    signature = signature or "(float[1,2,3,3] x) => (float[1,4,3,3] y)"
    body = f"""{ENTER} {CONV_NODES}
        c = Conv(xd, w, b) {between}
        cq = QuantizeLinear({last}, t, u) y = DequantizeLinear(cq, t, u)"""
    return graph(signature, body, f"{SCALES}, {CONV}")


class TestConv:
    def test_folds_the_zero_point_and_the_scales(self) -> None:
        program = lower(quantized_conv())
        assert kinds(program) == ["Transpose", "ConvInt8", "Transpose"]
        conv = program.ops[1]
        assert isinstance(conv, ops.ConvInt8)
        assert conv.weight.shape == (4, 1, 1, 2)
        assert conv.bias.tolist() == [1 - 9, 2 - 21, 3 - 33, 4 + 3]
        assert conv.requantization.multiplier.tolist() == [1.0, 0.5, 2.0, 4.0]
        assert (conv.input_zero_point, conv.requantization.zero_point) == (3, -5)
        assert program.notes == []

    def test_ports_are_int8_in_the_order_of_the_graph(self) -> None:
        program = lower(quantized_conv())
        assert [(p.name, p.shape) for p in program.inputs] == [("x", (1, 2, 3, 3))]
        assert program.tensors["x"].quantization == Quantization(0.5, 3)
        output = program.tensors[program.outputs[0].tensor]
        assert (output.dtype, output.quantization) == ("int8", Quantization(0.25, -5))

    def test_float_ports(self) -> None:
        program = lower(quantized_conv(), io="float")
        assert kinds(program) == ["Quantize", "Transpose", "ConvInt8", "Dequantize", "Transpose"]
        dtypes = [program.tensors[port.tensor].dtype for port in (*program.inputs, *program.outputs)]
        assert dtypes == ["float32", "float32"]

    @pytest.mark.parametrize(
        ("between", "low", "high", "absorbed"),
        [
            ("d = Relu(c)", -5, 127, 1),
            ("d = Clip(c, zero, six)", -5, 19, 1),
            ("e = Relu(c) d = Clip(e, zero, six)", -5, 19, 2),
            ("e = Transpose <perm = [0,2,3,1]> (c) d = Relu(e)", -5, 127, 1),
        ],
    )
    def test_clamps_become_bounds(self, between: str, low: int, high: int, absorbed: int) -> None:
        zero_six = "zero = Constant <value = float {0.0}> () six = Constant <value = float {6.0}> ()"
        shape = "1,3,3,4" if "Transpose" in between else "1,4,3,3"
        module = quantized_conv(f"{zero_six} {between}", "d", f"(float[1,2,3,3] x) => (float[{shape}] y)")
        program = lower(module)
        conv = next(op for op in program if isinstance(op, ops.ConvInt8))
        assert (conv.requantization.low, conv.requantization.high) == (low, high)
        assert len(conv.origin) == 1 + absorbed
        assert not any(isinstance(op, ops.UnaryF32 | ops.TableInt8) for op in program)

    def test_transposed_output_costs_nothing(self) -> None:
        module = quantized_conv(
            "d = Transpose <perm = [0,2,3,1]> (c)", "d", "(float[1,2,3,3] x) => (float[1,3,3,4] y)"
        )
        assert kinds(lower(module)) == ["Transpose", "ConvInt8"]

    def test_one_channel_image_needs_no_transpose(self) -> None:
        module = graph(
            "(float[1,1,4,4] x) => (float[1,1,3,3] y)",
            "y = Conv(x, w)",
            "float[1,1,2,2] w = {1.0, 2.0, 3.0, 4.0}",
        )
        assert kinds(lower(module)) == ["Reshape", "ConvF32", "Reshape"]

    def test_output_that_is_not_quantized_runs_in_float(self) -> None:
        body = f"{ENTER} {CONV_NODES} c = Conv(xd, w, b) y = Sigmoid(c)"
        program = lower(graph("(float[1,2,3,3] x) => (float[1,4,3,3] y)", body, f"{SCALES}, {CONV}"))
        assert kinds(program) == ["Dequantize", "Transpose", "ConvF32", "UnaryF32", "Transpose"]
        assert program.float_reasons == {
            "c": "its output is not quantized",
            "y": "its input is not quantized",
        }

    def test_accumulator_that_could_overflow_runs_in_float(self) -> None:
        constants = CONV.replace("{1,2,3,4}, float[4] bs", "{2147483647,2,3,4}, float[4] bs")
        body = f"{ENTER} {CONV_NODES} c = Conv(xd, w, b) q = QuantizeLinear(c, t, u)"
        body += " y = DequantizeLinear(q, t, u)"
        program = lower(graph("(float[1,2,3,3] x) => (float[1,4,3,3] y)", body, f"{SCALES}, {constants}"))
        assert "ConvF32" in kinds(program)
        assert program.float_reasons == {"c": "its accumulator could overflow 32 bits"}

    def test_weights_that_are_inputs_with_a_default_are_constants(self) -> None:
        module = graph(
            "(float[1,1,4,4] x) => (float[1,1,4,4] y)", "y = Conv(x, w)", "float[1,1,1,1] w = {2.0}"
        )
        module.graph.inputs.append(module.graph.initializers["w"])  # how files before IR version 4 are
        program = lower(module)
        assert [port.name for port in program.inputs] == ["x"]
        assert "ConvF32" in kinds(program)

    def test_one_dimensional(self) -> None:
        module = graph(
            "(float[1,2,8] x) => (float[1,3,4] y)",
            "y = Conv <strides = [2], pads = [1,0]> (x, w)",
            "float[3,2,2] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0,11.0,12.0}",
        )
        program = lower(module)
        conv = next(op for op in program if isinstance(op, ops.ConvF32))
        assert conv.window == ops.Window(kernel=(1, 2), strides=(1, 2), pads=(0, 1, 0, 0))
        assert program.tensors[conv.output].shape == (1, 1, 4, 3)


class TestWeights:
    def weights(self, dtype: str, zero: int, values: str) -> Program:
        constants = f"{SCALES}, {dtype}[2,2] wq = {{{values}}}, float ws = {{0.5}}, {dtype} wz = {{{zero}}}"
        body = f"""{ENTER} w = DequantizeLinear(wq, ws, wz) m = MatMul(xd, w)
            q = QuantizeLinear(m, t, u) y = DequantizeLinear(q, t, u)"""
        return lower(graph("(float[1,2] x) => (float[1,2] y)", body, constants))

    def test_uint8_weights_are_shifted(self) -> None:
        dense = self.weights("uint8", 128, "0,128,200,255").ops[0]
        assert isinstance(dense, ops.DenseInt8)
        assert dense.weight.tolist() == [[-128, 72], [0, 127]]

    def test_weights_of_nine_bits_run_in_float(self) -> None:
        program = self.weights("uint8", 10, "0,128,200,255")
        assert program.float_reasons == {"m": "its weights less their zero point need more than 8 bits"}

    def test_weights_quantized_in_the_graph(self) -> None:
        constants = f"{SCALES}, float[2,2] wf = {{0.4,-0.6,1.0,900.0}}, float ws = {{0.5}}, int8 wz = {{0}}"
        body = f"""{ENTER} wq = QuantizeLinear(wf, ws, wz) w = DequantizeLinear(wq, ws, wz)
            m = MatMul(xd, w) q = QuantizeLinear(m, t, u) y = DequantizeLinear(q, t, u)"""
        dense = lower(graph("(float[1,2] x) => (float[1,2] y)", body, constants)).ops[0]
        assert isinstance(dense, ops.DenseInt8)
        assert dense.weight.tolist() == [[1, 2], [-1, 127]]

    def test_float_bias_is_rounded_to_the_accumulators_steps(self) -> None:
        constants = (
            f"{SCALES}, int8[1,2] wq = {{1,1}}, float ws = {{0.5}}, int8 wz = {{0}}, float[1] b = {{0.9}}"
        )
        body = f"""{ENTER} w = DequantizeLinear(wq, ws, wz) m = Gemm <transB = 1> (xd, w, b)
            q = QuantizeLinear(m, t, u) y = DequantizeLinear(q, t, u)"""
        dense = lower(graph("(float[1,2] x) => (float[1,1] y)", body, constants)).ops[0]
        assert isinstance(dense, ops.DenseInt8)
        assert dense.bias.tolist() == [4 - 6]

    def test_matmul_takes_the_add_behind_it(self) -> None:
        constants = f"{SCALES}, int8[2,2] wq = {{1,2,3,4}}, float ws = {{0.5}}, int8 wz = {{0}},"
        constants += "int32[2] bq = {10, 20}, float bs = {0.25}, int32 bz = {0}"
        body = f"""{ENTER} w = DequantizeLinear(wq, ws, wz) b = DequantizeLinear(bq, bs, bz)
            m = MatMul(xd, w) a = Add(b, m) r = Relu(a)
            q = QuantizeLinear(r, t, u) y = DequantizeLinear(q, t, u)"""
        program = lower(graph("(float[1,2] x) => (float[1,2] y)", body, constants))
        (dense,) = program.ops
        assert isinstance(dense, ops.DenseInt8)
        assert dense.origin == ("m", "a", "r")
        assert dense.bias.tolist() == [10 - 12, 20 - 18]


class TestLayout:
    def test_flatten_permutes_the_weights_instead_of_the_image(self) -> None:
        weight = ", ".join(str(float(i)) for i in range(12))
        module = graph(
            "(float[1,3,2,2] x) => (float[1,1] y)",
            "r = Conv(x, c) f = Flatten(r) y = Gemm <transB = 1> (f, w)",
            f"float[3,3,1,1] c = {{1.0,0.0,0.0, 0.0,1.0,0.0, 0.0,0.0,1.0}}, float[1,12] w = {{{weight}}}",
        )
        program = lower(module)
        assert kinds(program) == ["Transpose", "ConvF32", "Reshape", "DenseF32"]
        dense = program.ops[-1]
        assert isinstance(dense, ops.DenseF32)
        assert dense.weight.tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]
        x = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
        assert run_program(program, [x])[0].item() == float(np.dot(x.reshape(-1), x.reshape(-1)))

    def test_flatten_that_is_an_output_moves_the_bytes(self) -> None:
        module = graph(
            "(float[1,3,2,2] x) => (float[1,12] y)",
            "m = MaxPool <kernel_shape = [1,1]> (x) y = Flatten(m)",
        )
        program = lower(module)
        assert kinds(program) == ["Transpose", "MaxPool", "Reshape", "Transpose", "Reshape"]
        x = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
        assert run_program(program, [x])[0].tolist() == x.reshape(1, 12).tolist()

    def test_global_pool_to_dense_moves_nothing(self) -> None:
        module = graph(
            "(float[1,2,2,4] i) => (float[1,3] y)",
            "x = Transpose <perm = [0,3,1,2]> (i) p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w)",
            "float[4,3] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0,11.0,12.0}",
        )
        assert kinds(lower(module)) == ["AveragePoolF32", "Reshape", "DenseF32"]

    def test_per_channel_constant_follows_the_layout(self) -> None:
        module = graph(
            "(float[1,2,2,3] i) => (float[1,2,2,3] y)",
            "x = Transpose <perm = [0,3,1,2]> (i) a = Mul(x, k) y = Transpose <perm = [0,2,3,1]> (a)",
            "float[3,1,1] k = {1.0,2.0,3.0}",
        )
        program = lower(module)
        (mul,) = program.ops
        assert isinstance(mul, ops.BinaryF32)
        assert mul.constant is not None
        assert mul.constant.shape == (1, 1, 1, 3)

    def test_softmax_over_channels_is_over_the_last_axis_in_memory(self) -> None:
        module = graph(
            "(float[1,2,2,3] i) => (float[1,3,2,2] y)",
            "x = Transpose <perm = [0,3,1,2]> (i) y = Softmax <axis = 1> (x)",
        )
        assert kinds(lower(module)) == ["SoftmaxF32", "Transpose"]

    def test_output_that_is_an_input_is_copied(self) -> None:
        program = lower(
            graph(
                "(float[2,3] x) => (float[6] y)",
                "y = Flatten <axis = 0> (x)".replace("Flatten <axis = 0> (x)", "Reshape(x, n)"),
                "int64[1] n = {6}",
            )
        )
        assert kinds(program) == ["Reshape", "Transpose"]

    def test_copies_are_shared(self) -> None:
        module = graph(
            "(float[1,2,3,3] x) => (float[1,2,3,3] y)",
            "a = MaxPool <kernel_shape = [1,1]> (x) b = AveragePool <kernel_shape = [1,1]> (x) y = Add(a, b)",
        )
        assert kinds(lower(module)).count("Transpose") == 2  # one in, one out


RESIDUAL = """{enter} {nodes}
    k = Conv(xd, w, b) kq = QuantizeLinear(k, s, z) kd = DequantizeLinear(kq, s, z)
    c = Conv(xd, w, b) cq = QuantizeLinear(c, t, u) cd = DequantizeLinear(cq, t, u)
    a = Add({operands}) r = Relu(a) aq = QuantizeLinear(r, s, u) y = DequantizeLinear(aq, s, u) {more}"""


class TestResidual:
    def program(self, operands: str, more: str = "", outputs: str = "float[1,4,3,3] y") -> Program:
        body = RESIDUAL.format(enter=ENTER, nodes=CONV_NODES, operands=operands, more=more)
        return lower(graph(f"(float[1,2,3,3] x) => ({outputs})", body, f"{SCALES}, {CONV}"))

    @pytest.mark.parametrize("operands", ["kd, cd", "cd, kd"])
    def test_later_convolution_takes_the_addition(self, operands: str) -> None:
        program = self.program(operands)
        assert kinds(program) == ["Transpose", "ConvInt8", "ConvInt8", "Transpose"]
        first, second = program.ops[1:3]
        assert isinstance(first, ops.ConvInt8)
        assert isinstance(second, ops.ConvInt8)
        assert first.residual is None
        assert second.inputs[1] == first.output
        assert second.residual is not None
        assert second.residual.zero_points == (-5, 3)  # its own result first
        assert second.residual.low == -5
        assert second.origin == ("c", "a", "r")

    def test_convolution_with_another_reader_keeps_its_output(self) -> None:
        program = self.program(
            "kd, cd", "o = MaxPool <kernel_shape = [1,1]> (cd)", "float[1,4,3,3] y, float[1,4,3,3] o"
        )
        convs = [op for op in program if isinstance(op, ops.ConvInt8)]
        # the earlier one cannot take it: the other operand is not there yet
        assert [conv.residual for conv in convs] == [None, None]
        assert "AddInt8" in kinds(program)

    def test_fusion_changes_no_byte(self) -> None:
        fused = self.program("kd, cd")
        plain = self.program("kd, cd", "o = Identity(cd)", "float[1,4,3,3] y, float[1,4,3,3] o")
        x = np.random.default_rng(0).integers(-128, 128, (1, 2, 3, 3)).astype(np.int8)
        assert np.array_equal(run_program(fused, [x])[0], run_program(plain, [x])[0])


class TestFormats:
    def test_uint8_codes_are_stored_less_128(self) -> None:
        body = "q = QuantizeLinear(x, s, z) r = Transpose <perm = [1,0]> (q) y = DequantizeLinear(r, s, z)"
        program = lower(graph("(float[2,3] x) => (float[3,2] y)", body, "float s = {0.5}, uint8 z = {130}"))
        assert program.tensors["x"].quantization == Quantization(0.5, 2)

    def test_uint8_input_says_so(self) -> None:
        program = lower(
            graph(
                "(uint8[2,3] x) => (float[2,3] y)", "c = Cast <to = 1> (x) y = Mul(c, k)", "float k = {0.5}"
            )
        )
        assert program.tensors["x"].quantization == Quantization(1.0, -128)
        assert "Input 'x' is uint8 in the model: give it x - 128 as int8." in program.notes
        x = np.array([[0, 1, 2], [128, 254, 255]])
        got = run_program(program, [(x - 128).astype(np.int8)])[0]
        assert got.tolist() == (x * 0.5).tolist()

    def test_change_of_scale_is_a_table(self) -> None:
        body = f"{ENTER} q = QuantizeLinear(xd, t, u) y = DequantizeLinear(q, t, u)"
        (table,) = lower(graph("(float[4] x) => (float[4] y)", body, SCALES)).ops
        assert isinstance(table, ops.TableInt8)
        steps = np.clip((np.arange(-128, 128) - 3) * 2 - 5, -128, 127)
        assert table.table.tolist() == steps.tolist()

    def test_relu_in_front_of_an_integer_layer_stays_in_integers(self) -> None:
        body = f"""{ENTER} {CONV_NODES} r = Relu(xd) c = Conv(r, w, b)
            q = QuantizeLinear(c, t, u) y = DequantizeLinear(q, t, u)"""
        program = lower(graph("(float[1,2,3,3] x) => (float[1,4,3,3] y)", body, f"{SCALES}, {CONV}"))
        assert kinds(program) == ["TableInt8", "Transpose", "ConvInt8", "Transpose"]

    def test_constant_operand_is_a_constant_tensor(self) -> None:
        constants = f"{SCALES}, int8[2,1,1] kq = {{7, -9}}, float ks = {{0.25}}, int8 kz = {{1}}"
        body = f"""{ENTER} p = MaxPool <kernel_shape = [1,1]> (xd) k = DequantizeLinear(kq, ks, kz)
            a = Mul(p, k) q = QuantizeLinear(a, t, u) y = DequantizeLinear(q, t, u)"""
        program = lower(graph("(float[1,2,3,3] x) => (float[1,2,3,3] y)", body, constants))
        mul = next(op for op in program if isinstance(op, ops.MulInt8))
        constant = program.constants[mul.inputs[1]]
        assert constant.shape == (1, 1, 1, 2)
        assert constant.reshape(-1).tolist() == [7, -9]
        assert mul.zero_points == (3, 1)

    def test_scalar_operand_is_a_table(self) -> None:
        body = f"{ENTER} a = Sub(k, xd) q = QuantizeLinear(a, t, u) y = DequantizeLinear(q, t, u)"
        (table,) = lower(graph("(float[4] x) => (float[4] y)", body, f"{SCALES}, float k = {{1.0}}")).ops
        assert isinstance(table, ops.TableInt8)
        assert table.table[3 + 128] == 4 - 5

    def test_concat_rescales_its_parts(self) -> None:
        body = f"""{ENTER} wq = QuantizeLinear(v, t, u) wd = DequantizeLinear(wq, t, u)
            c = Concat <axis = 0> (xd, wd) q = QuantizeLinear(c, t, u) y = DequantizeLinear(q, t, u)"""
        (concat,) = lower(graph("(float[2] x, float[3] v) => (float[5] y)", body, SCALES)).ops
        assert isinstance(concat, ops.Concat)
        assert concat.tables[0] is not None
        assert concat.tables[1] is None

    def test_mean_over_the_image_is_a_pool(self) -> None:
        body = f"""{ENTER} m = ReduceMean <axes = [2,3], keepdims = 0> (xd)
            q = QuantizeLinear(m, t, u) y = DequantizeLinear(q, t, u)"""
        program = lower(graph("(float[1,2,3,5] x) => (float[1,2] y)", body, SCALES))
        pool = next(op for op in program if isinstance(op, ops.AveragePoolInt8))
        assert pool.multipliers == {15: float(np.float32(0.5) / np.float32(0.25 * 15))}

    def test_float_model_says_that_it_is_not_quantized(self) -> None:
        program = lower(graph("(float[4] x) => (float[4] y)", "y = Sigmoid(x)"))
        assert program.notes == ["The model is not quantized: everything runs in float."]
