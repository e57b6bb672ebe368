"""Paths that lead to no file, and files that are of no format: what is said about them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from irshrink.errors import ModelError, SamplesError, TargetError
from irshrink.files import why_no_file
from irshrink.frontends.read import read_model
from irshrink.samples import InputSpec, load_samples
from irshrink.target import load_target


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert why_no_file(Path("socket")) == "is a socket, not a file"
    assert why_no_file(Path("pipe")) == "is a pipe, not a file"
    assert why_no_file(Path("dangling")) == "is a link to a file that does not exist"
    assert why_no_file(Path("/dev/null")) == "is a device, not a file"
    assert why_no_file(Path("none")) == "no such file"
    assert why_no_file(tmp_path) == "is a folder"


def test_it_is_said_wherever_a_file_is_wanted() -> None:
    with pytest.raises(ModelError, match=r"^/dev/null: is a device, not a file. Give the path of a model\.$"):
        read_model("/dev/null")
    spec = InputSpec("x", (1, 4), np.dtype(np.float32))
    with pytest.raises(SamplesError, match=r"^/dev/null: is a device, not a file. Give the eval"):
        load_samples("/dev/null", [spec], role="evaluation")
    with pytest.raises(TargetError, match=r"^none\.toml: no such file. Give the TOML file of a target"):
        load_target("none.toml")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "photo.jpg",
            r"since the suffix '\.jpg' is of no other format. Known: \.onnx, \.keras, .*, or a Saved",
        ),
        ("words.txt", r"since it does not begin like a \.txt file of LightGBM\."),
        ("plain", r"since its name has no suffix. Known: \.onnx, "),
    ],
)
def test_a_file_that_was_taken_for_onnx(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("I am no model\n" * 20)
    with pytest.raises(ModelError, match=f"not a readable ONNX model .* It was taken for ONNX, {reason}"):
        read_model(tmp_path / name)


def test_a_file_that_is_called_onnx(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("I am no model\n" * 20)
    with pytest.raises(ModelError, match=r"check that the file is complete\.$"):
        read_model(tmp_path / "text.onnx")
