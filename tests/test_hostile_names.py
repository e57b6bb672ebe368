"""Names that end a string, a comment, a line or a path where someone forgot to escape them."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest
from onnx import helper

from irshrink import cli
from irshrink.testing.mutation.pick import NAMES


def write_model(path: Path) -> None:
    """A chain of nodes; every name of the model is hostile."""
    names = [name for name in NAMES if name.strip()]
    nodes = [
        helper.make_node("Relu" if k % 2 else "Neg", [x], [y], name=y)
        for k, (x, y) in enumerate(pairwise(names))
    ]
    ports = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, names[3], ports[:1], ports[1:], doc_string=names[4])
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
        producer_name=names[2],
        doc_string=names[5],
    )
    path.write_bytes(model.SerializeToString())


def test_names_reach_nothing_that_runs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "$(touch pwned); `touch pwned` \"q\" 'a' -- \n#error x.onnx"
    write_model(tmp_path / name)
    assert cli.run(["compile", name, "-t", "host", "-o", "out"]) == 0
    assert cli.run(["inspect", name, "-t", "cortex-m4"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out"])
    assert "<script>" not in (tmp_path / "out" / "report.html").read_text("utf-8")
    ast.parse((tmp_path / "out" / "irshrink_model.py").read_text("utf-8"))
    for file in (tmp_path / "out").rglob("*"):
        if file.suffix in (".c", ".h", "") and file.is_file():
            lines = file.read_text("utf-8", "replace").splitlines()
            assert not any(line.lstrip().startswith("#error x") for line in lines), file
