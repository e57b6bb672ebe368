"""The Python loader of a hosted package, imported from where it was built."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def loader_of(folder: Path) -> ModuleType:
    """``irshrink_model.py`` of the build in ``folder``."""
    spec = importlib.util.spec_from_file_location("irshrink_model", folder / "irshrink_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["irshrink_model"] = module  # NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module
