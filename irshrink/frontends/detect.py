"""Which format a path is of: by suffix, by the file that marks a folder, and ONNX otherwise."""

from __future__ import annotations

import importlib
from pathlib import Path

from irshrink.errors import ModelError
from irshrink.files import why_no_file
from irshrink.frontends.frontend import Frontend
from irshrink.frontends.table import FRONTENDS, ONNX, REFUSED


def frontend_of(path: Path) -> Frontend:
    """The row of :data:`~irshrink.frontends.table.FRONTENDS` for a model; the ONNX row for any other file.

    Raises:
        ModelError: nothing is there, a folder is no model, or the file is of a kind that is never opened.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise ModelError(f"{path}: {why_no_file(path)}. Give the path of a model.")
    suffix = path.suffix.lower()
    for refusal in REFUSED:
        if suffix in refusal.suffixes:
            raise ModelError(f"{path}: {refusal.reason}")
    for frontend in FRONTENDS:
        if suffix in frontend.suffixes and not frontend.marker and _claims(frontend, path):
            return frontend
    return ONNX


def why_onnx(path: Path) -> str:
    """A sentence to add where a file that was taken for ONNX turns out not to be; "" when it is called so."""
    suffix = path.suffix.lower()
    if suffix in ONNX.suffixes:
        return ""
    titles = [frontend.title for frontend in FRONTENDS if suffix in frontend.suffixes and frontend.claims]
    if titles:
        return f" It was taken for ONNX, since it does not begin like a {suffix} file of {titles[0]}."
    named = f"the suffix '{path.suffix}' is of no other format" if suffix else "its name has no suffix"
    return f" It was taken for ONNX, since {named}. Known: {_known()}."


def _of_folder(path: Path) -> Frontend:
    for frontend in FRONTENDS:
        if frontend.marker and (path / frontend.marker).is_file():
            return frontend
    markers = " or ".join(f"'{f.marker}'" for f in FRONTENDS if f.marker)
    raise ModelError(f"{path}: is a folder without {markers}. Give the path of a model: {_known()}.")


def _claims(frontend: Frontend, path: Path) -> bool:
    if not frontend.claims:
        return True
    module, _, function = frontend.claims.partition(":")
    return bool(getattr(importlib.import_module(module), function)(path))


def _known() -> str:
    suffixes = [suffix for frontend in (ONNX, *FRONTENDS) for suffix in frontend.suffixes]
    return ", ".join(dict.fromkeys(suffixes)) + ", or a SavedModel folder"
