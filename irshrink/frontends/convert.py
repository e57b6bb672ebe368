"""One model file of any format into an ONNX file in a folder of ours."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irshrink.errors import ModelError, RecipeError
from irshrink.files import sha256, write_bytes
from irshrink.frontends.detect import frontend_of
from irshrink.frontends.frontend import COMMON_OPTIONS, Frontend
from irshrink.frontends.table import ONNX

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class ImportedModel:
    """An ONNX file and where it came from.

    Attributes:
        path: the ONNX file: the model itself when it is ONNX, else inside the work folder.
        frontend: the format that the model came in.
        files: every file of the original, sorted.
        sha256: of the original (see :func:`digest`).
        versions: of what converted it, by distribution; empty for ONNX and our own readers.
    """

    path: Path
    frontend: Frontend
    files: tuple[Path, ...]
    sha256: str
    versions: Mapping[str, str] = field(default_factory=dict)


def import_model(path: Path, workdir: Path, options: Mapping[str, str] | None = None) -> ImportedModel:
    """Convert a model of any known format to ONNX.

    Args:
        path: a model file, or the folder of a SavedModel.
        workdir: an empty folder; what is written stays inside.
        options: ``--frontend KEY=VALUE`` as a dictionary.

    Raises:
        ModelError: missing, never opened (pickles), or the converter cannot convert it.
        RecipeError: an option that the format does not have.
        ToolError: the converter's extra is not installed, or it took too long.
    """
    options = options or {}
    frontend = frontend_of(path)
    frontend.require_options(options, path)
    files = model_files(path, options)
    name = digest(path, files)
    if frontend is ONNX:
        return ImportedModel(path, frontend, files, name)
    own = {key: value for key, value in options.items() if key not in COMMON_OPTIONS}
    if frontend.reader:
        output = workdir / "model.onnx"
        proto: ModelProto = _reader(frontend).read(path, own)
        write_bytes(output, proto.SerializeToString(deterministic=True))
        return ImportedModel(output, frontend, files, name)
    from irshrink.frontends.interpreter import find_interpreter
    from irshrink.frontends.process import run_converter

    seconds = _seconds(options)
    interpreter = find_interpreter(frontend, options.get("python"))
    output = run_converter(frontend, interpreter.path, path, workdir, own, seconds)
    return ImportedModel(output, frontend, files, name, interpreter.versions)


def model_files(path: Path, options: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Every file that makes up the model at ``path`` (external weights of an ONNX file excepted), sorted.

    Raises:
        ModelError: it is missing, or a folder that links to the outside.
    """
    frontend = frontend_of(path)
    if frontend.reader and hasattr(_reader(frontend), "files"):
        files: tuple[Path, ...] = _reader(frontend).files(path, options or {})
        return files
    if not path.is_dir():
        return (path,)
    inside = sorted(file for file in path.rglob("*") if file.is_file() or file.is_symlink())
    for file in inside:
        if file.is_symlink():
            raise ModelError(
                f"{file}: is a link inside a model's folder. Replace it by the file it points to."
            )
    return tuple(inside)


def digest(path: Path, files: tuple[Path, ...]) -> str:
    """SHA-256 of a model: of its file; of names and digests of its files where there are several."""
    if files == (path,):
        return sha256(path)
    whole = hashlib.sha256()
    root = path if path.is_dir() else None
    for number, file in enumerate(files):
        name = file.relative_to(root).as_posix() if root else str(number)
        whole.update(f"{name}\0{sha256(file)}\n".encode())
    return whole.hexdigest()


def _reader(frontend: Frontend) -> Any:
    return importlib.import_module(frontend.reader)


def _seconds(options: Mapping[str, str]) -> float:
    from irshrink.frontends.process import DEFAULT_SECONDS

    text = options.get("seconds")
    if text is None:
        return DEFAULT_SECONDS
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise RecipeError(f"--frontend seconds={text}: give a whole number of seconds above 0.")
    return float(text)
