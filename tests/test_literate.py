"""The harness of the literate tests: what it must catch."""

from __future__ import annotations

from pathlib import Path

import pytest

from irshrink.errors import PassError
from irshrink.module import Module
from irshrink.passes.eliminate_identity import EliminateIdentity
from irshrink.pipeline import Context, PassResult
from irshrink.testing import check_case, read_cases, updated_text

BEFORE = """g (float[1, 4] x) => (float[1, 4] y)
   <float one = {1}>
{
   a = Mul (x, one)
   y = Relu (a)
}"""
AFTER = "g (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }"


def write(folder: Path, *blocks: tuple[str, str], name: str = "eliminate-identity") -> Path:
    text = "\n\n".join(f"```{info}\n{body}\n```" for info, body in blocks)
    path = folder / f"{name}.md"
    path.write_text(f"# {name}\n\nWhy.\n\n## A case\n\nWords.\n\n{text}\n")
    return path


def check(path: Path) -> None:
    (case,) = read_cases(path)
    check_case(case)


def test_a_good_case(tmp_path: Path) -> None:
    check(write(tmp_path, ("onnx before", BEFORE), ("onnx after", AFTER)))


def test_another_graph_is_shown_as_a_difference(tmp_path: Path) -> None:
    path = write(tmp_path, ("onnx before", BEFORE), ("onnx after", AFTER.replace("Relu", "Neg")))
    with pytest.raises(AssertionError, match=r"(?s)another graph came out.*-   y = Neg.*\+   y = Relu"):
        check(path)


def test_other_numbers_are_found(tmp_path: Path) -> None:
    two = BEFORE.replace("{1}", "{2}")
    path = write(tmp_path, ("onnx before", two), ("onnx after", two.replace("{2}", "{2.5}")))
    with pytest.raises(AssertionError, match="constant _c0"):
        check(path)


def test_a_change_where_none_may_be(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="another graph came out"):
        check(write(tmp_path, ("onnx before", BEFORE), ("unchanged", "")))


def test_a_missing_reason(tmp_path: Path) -> None:
    path = write(tmp_path, ("onnx before", AFTER), ("unchanged", "because"))
    with pytest.raises(AssertionError, match="no note says 'because', but"):
        check(path)


def test_update_writes_what_comes_out(tmp_path: Path) -> None:
    path = write(tmp_path, ("onnx before", BEFORE), ("onnx after", "anything"))
    path.write_text(updated_text(path))
    check(path)
    assert "y = Relu (x)" in path.read_text()
    assert updated_text(path) == path.read_text()


def test_options_reach_the_pass(tmp_path: Path) -> None:
    header = '<ir_version: 8, opset_import: ["" : 17]>\n'
    cases = (
        ("toml options", "minimum = 18"),
        ("onnx before", header + AFTER),
        ("onnx after", header.replace("17", "18") + AFTER),
    )
    check(write(tmp_path, *cases, name="raise-opset"))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([("onnx before", BEFORE)], "needs one before, and one of after and unchanged"),
        ([("onnx after", AFTER)], "needs one before"),
        ([("onnx before", BEFORE), ("onnx after", AFTER), ("unchanged", "")], "one of after and unchanged"),
        ([("python", "1")], "a block of unknown kind 'python'"),
    ],
)
def test_files_that_mean_nothing(tmp_path: Path, blocks: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_cases(write(tmp_path, *blocks))


def test_text_that_is_no_model(tmp_path: Path) -> None:
    path = write(tmp_path, ("onnx before", "g (x) => y"), ("unchanged", ""))
    with pytest.raises(ValueError, match=r"eliminate-identity\.md:5: A case: .*ParseError"):
        check(path)


def test_a_pass_that_writes_into_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scribble(self: EliminateIdentity, module: Module, ctx: Context) -> PassResult:
        tensor = module.graph.initializers["one"].const_value
        assert tensor is not None
        tensor.numpy()[...] = 3
        return PassResult(True)

    monkeypatch.setattr(EliminateIdentity, "run", scribble)
    with pytest.raises(PassError, match="assignment destination is read-only"):
        check(write(tmp_path, ("onnx before", BEFORE), ("onnx after", AFTER)))


def test_a_pass_that_changes_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(self: EliminateIdentity, module: Module, ctx: Context) -> PassResult:
        module.graph[1].op_type = "Sigmoid"
        return PassResult(True)

    monkeypatch.setattr(EliminateIdentity, "run", break_it)
    path = write(tmp_path, ("onnx before", BEFORE), ("onnx after", BEFORE.replace("Relu", "Sigmoid")))
    with pytest.raises(AssertionError, match="output 'y' changed: off by"):
        check(path)
