"""irshrink: a compiler for small models. ONNX in, byte-exact int8 C for Cortex-M and the host out.

The public names are loaded on first use, so that ``irshrink --help`` does not pay for onnx or TVM.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irshrink.api import compile, plan
    from irshrink.artifact import Build, load_build
    from irshrink.compiler import compile_model
    from irshrink.errors import IrshrinkError
    from irshrink.frontends.pytorch import from_torch
    from irshrink.frontends.read import read_model
    from irshrink.frontends.sklearn import from_sklearn
    from irshrink.module import Module, load_module
    from irshrink.pipeline import Context, Pass, PassResult, Pipeline
    from irshrink.recipe import Recipe
    from irshrink.target import Target, load_target

__version__ = "0.1.0"

_PUBLIC = {
    "Build": "irshrink.artifact",
    "Context": "irshrink.pipeline",
    "IrshrinkError": "irshrink.errors",
    "Module": "irshrink.module",
    "Pass": "irshrink.pipeline",
    "PassResult": "irshrink.pipeline",
    "Pipeline": "irshrink.pipeline",
    "Recipe": "irshrink.recipe",
    "Target": "irshrink.target",
    "compile": "irshrink.api",
    "compile_model": "irshrink.compiler",
    "from_sklearn": "irshrink.frontends.sklearn",
    "from_torch": "irshrink.frontends.pytorch",
    "load_build": "irshrink.artifact",
    "load_module": "irshrink.module",
    "load_target": "irshrink.target",
    "plan": "irshrink.api",
    "read_model": "irshrink.frontends.read",
}

__all__ = [
    "Build",
    "Context",
    "IrshrinkError",
    "Module",
    "Pass",
    "PassResult",
    "Pipeline",
    "Recipe",
    "Target",
    "compile",
    "compile_model",
    "from_sklearn",
    "from_torch",
    "load_build",
    "load_module",
    "load_target",
    "plan",
    "read_model",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'irshrink' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
