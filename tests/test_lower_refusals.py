"""What the lowering refuses, and the names it gives."""

from __future__ import annotations

import pytest

from irshrink.cli import explain
from irshrink.errors import InternalError, ModelError, UnsupportedModelError
from irshrink.module import Module, module_from_text
from irshrink.program.lower import lower, unsupported
from irshrink.program.lower.names import Names, identifier
from irshrink.program.lower.table import RULES


def graph(signature: str, body: str, initializers: str = "", opset: int = 17) -> Module:
    """A module from the parts of ONNX's textual syntax."""
    constants = f"<{initializers}>" if initializers else ""
    return module_from_text(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g {signature} {constants} {{ {body} }}'
    )


class TestNames:
    @pytest.mark.parametrize(
        ("hint", "name"),
        [
            ("/features/0/Conv_output_0_DequantizeLinear_Output", "features_0_Conv_output_0"),
            ("model/activation/Relu;model/batch_norm", "model_activation_Relu"),
            ("a" * 60, "a" * 40),
            ("long_path/" * 8 + "conv", "path_long_path_long_path_long_path_conv"),
            ("0", "t_0"),
            ("é", "t"),
            ("Identity:0", "Identity"),
        ],
    )
    def test_are_identifiers(self, hint: str, name: str) -> None:
        assert identifier(hint) == name

    def test_are_unique(self) -> None:
        names = Names()
        assert [names.new("a"), names.new("a"), names.new("a_2")] == ["a", "a_2", "a_2_2"]


class TestRefusals:
    def test_a_dropout_that_trains(self) -> None:
        module = graph(
            "(float[1,4] x) => (float[1,4] y)",
            "y = Dropout(x, r, t)",
            "float r = {0.5}, bool t = {1}",
        )
        [found] = unsupported(module)
        assert found.reason == "it drops at random (training_mode is true)"

    def test_a_dropout_that_may_train(self) -> None:
        module = graph("(float[1,4] x, bool t) => (float[1,4] y)", "y = Dropout(x, r, t)", "float r = {0.5}")
        [found] = unsupported(module)
        assert found.reason == "it drops at random (training_mode is computed)"

    def test_every_node_is_listed(self) -> None:
        module = graph(
            "(float[1,2,4,4] x) => (float[1,2,4,4] y)",
            """a = Bernoulli(x) b = Relu(a) c = Pad <mode = "reflect"> (b, p)
            d = RandomNormalLike(c) y = Slice(d, m, e)""",
            "int64[8] p = {0,0,4,4,0,0,4,4}, int64[4] m = {0,0,0,0}, int64[4] e = {1,2,4,4}",
        )
        found = unsupported(module)
        assert [(item.op_type, item.node) for item in found] == [
            ("Bernoulli", "a"),
            ("Pad", "c"),
            ("RandomNormalLike", "d"),
        ]
        with pytest.raises(UnsupportedModelError) as caught:
            lower(module)
        assert str(caught.value).splitlines() == [
            "these nodes cannot run on the target:",
            "  Bernoulli 'a': there is no kernel for it. Replace it by supported operators, or cut the model "
            "there and do this step in the application.",
            "  Pad 'c': it pads by more than the 4 values that there are. Pad by less.",
            "  RandomNormalLike 'd': there is no kernel for it. Replace it by supported operators, or "
            "cut the model there and do this step in the application.",
        ]

    def test_nothing_to_refuse(self) -> None:
        assert unsupported(graph("(float[4] x) => (float[4] y)", "y = Relu(x)")) == []

    def test_dynamic_dimension(self) -> None:
        with pytest.raises(ModelError, match=r"input 'x' has dynamic dimensions \[N,3\]. Give fixed sizes"):
            lower(graph("(float[N,3] x) => (float[N,3] y)", "y = Relu(x)"))

    def test_input_type(self) -> None:
        with pytest.raises(ModelError, match="input 'x' is COMPLEX64; only numbers and truth values run"):
            lower(graph("(complex64[2] x) => (complex64[2] y)", "y = Identity(x)"))

    @pytest.mark.parametrize(
        ("signature", "body", "constants", "reason"),
        [
            (
                "(float[1,2,2,2,2,2] x) => (float[1,2,2,2,2,2] y)",
                "y = MaxPool <kernel_shape = [1,1,1,1]> (x)",
                "",
                "its window has not one to three axes",
            ),
            (
                "(float[3] x) => (float[3] y)",
                "y = Pow(x, k)",
                "float k = {100.0}",
                "its exponent is 100.0",
            ),
            (
                "(float[3] x) => (float[2] y)",
                "y = Gather(x, k)",
                "int64[2] k = {1, 3}",
                "outside of its 3 elements",
            ),
            (
                "(float[2,3] x) => (float[2,3] y)",
                "q = QuantizeLinear <axis = 0> (x, s, z) y = DequantizeLinear <axis = 0> (q, s, z)",
                "float[2] s = {1.0, 2.0}, int8[2] z = {0, 0}",
                "an activation is quantized per channel",
            ),
            (
                "(float[3] x) => (float[3] y)",
                "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
                "float s = {1.0}, uint16 z = {0}",
                "an activation is quantized to uint16",
            ),
            (
                "(float[3] x) => (float[3] y)",
                "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
                "float s = {0.0}, int8 z = {0}",
                "its scale is 0.0",
            ),
            ("(int8[3] x) => (int8[3] y)", "y = Sigmoid(x)", "", "it computes with stored int8"),
            (
                "(float[1,2,4,4] x) => (float[1,2,7,7] y)",
                "y = AveragePool <kernel_shape = [2,2], pads = [2,2,2,2]> (x)",
                "",
                "a window sees nothing but padding",
            ),
            (
                "(float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,4,4] y)",
                "y = Conv(x, w)",
                "",
                "its weights are computed at run time",
            ),
        ],
    )
    def test_reasons(self, signature: str, body: str, constants: str, reason: str) -> None:
        opset = 21 if "int16" in constants else 17
        found = unsupported(graph(signature, body, constants, opset))
        assert reason in str(found[0])


class TestBugsOfOurs:
    MODEL = graph("(float[1,4] x) => (float[1,4] y)", "[act] y = Relu(x)")

    @pytest.mark.parametrize(
        "bug", [KeyError("kind"), AssertionError(), TypeError("'NoneType'"), RuntimeError()]
    )
    def test_are_no_refusals(self, bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        """The node is named, and the exit code tells a bug from a model that does not fit."""

        def rule(*_: object) -> None:
            raise bug

        monkeypatch.setitem(RULES, "Relu", rule)
        for run in (lower, unsupported):
            with pytest.raises(
                InternalError, match=f"Relu 'act' cannot be lowered: {type(bug).__name__}"
            ) as e:
                run(self.MODEL)
            assert e.value.__cause__ is bug
        sentence, code = explain(e.value)
        assert (code, "Relu 'act'" in sentence) == (70, True)

    def test_what_needs_too_much_memory_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def rule(*_: object) -> None:
            raise MemoryError

        monkeypatch.setitem(RULES, "Relu", rule)
        [found] = unsupported(self.MODEL)
        assert found.reason == "memory ran out over it"

    def test_a_user_s_error_in_a_rule_stays_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def rule(*_: object) -> None:
            raise ModelError("a sentence")

        monkeypatch.setitem(RULES, "Relu", rule)
        with pytest.raises(ModelError, match=r"^a sentence$"):
            lower(self.MODEL)


class TestWhatDoesNotFit:
    """ONNX's checks let these pass; each is refused in words, not by an exception of NumPy's."""

    @pytest.mark.parametrize(
        ("signature", "body", "constants", "reason"),
        [
            ("(float[2,3] x) => (float[2,3] y)", "y = Hardmax <axis = 4> (x)", "", "its axis 4 is none of 2"),
            (
                "(float[2,3] x) => (float[2,3] y)",
                "y = CumSum(x, a)",
                "int64 a = {5}",
                "its axis 5 is none of 2",
            ),
            (
                "(float[1,1,2,2] x) => (float[1,1,4,4] y)",
                'y = Resize <mode = "nearest", nearest_mode = "edge"> (x, , s)',
                "float[4] s = {1.0, 1.0, 2.0, 2.0}",
                "its nearest_mode is 'edge'. Use ceil, floor",
            ),
            (
                "(float[1,1,2,2] x) => (float[1,1,4,4] y)",
                "y = Resize(x, , s)",
                "float[3] s = {1.0, 2.0, 2.0}",
                "it has 3 scales for 4 axes",
            ),
            (
                "(float[2,3] x, float[2,2] u) => (float[2,3] y)",
                'y = ScatterElements <reduction = "VALID"> (x, i, u)',
                "int64[2,2] i = {0, 0, 1, 1}",
                "its reduction is 'VALID'",
            ),
            (
                "(float[4,2] x, float[3,2] u) => (float[4,2] y)",
                "y = ScatterND(x, i, u)",
                "int64[2,1] i = {0, 1}",
                r"its updates of shape [3, 2] do not fit indices of shape [2, 1]",
            ),
            (
                "(float[2,3] x) => (float[2,3] y)",
                "y = LayerNormalization(x, s)",
                "float[2] s = {1.0, 1.0}",
                "its scales of shape [2] do not fit [3]",
            ),
            (
                "(float[2,3] x, float[3,2] y0) => (float[2,3] y)",
                "y = Mul(x, y0)",
                "",
                "the shapes [2, 3] and [3, 2] do not fit each other",
            ),
            (
                "(int64[2] x) => (float[2,3] y)",
                "y = OneHot(x, d, v)",
                "int64 d = {3}, float v = {1.0}",
                "its values are [] and not two numbers",
            ),
            (
                "(float[2,2] x) => (float[2,2] y)",
                "y = EyeLike <dtype = 4294967297> (x)",
                "",
                "there is no element type 4294967297",
            ),
            (
                "(float x) => (float y)",
                "y = GroupNormalization <num_groups = 1> (x, g, g)",
                "float[1] g = {1.0}",
                "its input has 0 axes, and it needs 2",
            ),
            (
                "(float[1,4,2] x) => (float[1,4,2] y)",
                "y = GroupNormalization <num_groups = 2> (x, g, g)",
                "float[3] g = {1.0, 1.0, 1.0}",
                "its scales are 3 for 4 channels",
            ),
        ],
    )
    def test_says_what(self, signature: str, body: str, constants: str, reason: str) -> None:
        module = graph(signature, body, constants, 18)
        assert reason in str(unsupported(module)[0])


@pytest.mark.parametrize(
    ("signature", "body", "initializers", "reason"),
    [
        (
            "(float[2, 3] x) => (float[1, 1, 2, 3] y)", "y = Unsqueeze (x, axes)",
            "int64[2] axes = {0, 0}", "name one twice",
        ),
        (
            "(float[2, 3] x) => (float[4, 3] y)", "y = Pad (x, pads, value)",
            "int64[4] pads = {1, 0, 1, 0}, float[2] value = {1, 2}", "its border is 2 numbers",
        ),
        (
            "(float[1, 1, 2, 2] x) => (float[1, 2, 2, 2] y)", "y = Conv (x, w, b)",
            "float[2, 1, 1, 1] w = {1, 2}, float[3] b = {1, 2, 3}", "its bias has 3 numbers for 2 channels",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(
    signature: str, body: str, initializers: str, reason: str
) -> None:
    (refused,) = unsupported(graph(signature, body, initializers))
    assert reason in refused.reason
