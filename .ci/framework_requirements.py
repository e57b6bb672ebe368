"""Prints what the extras of the frontends need, without irshrink: the pins stand in pyproject.toml alone."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FRAMEWORKS = ("tensorflow", "keras", "pytorch", "sklearn", "boosting")

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
needed = {line for extra in FRAMEWORKS for line in project["optional-dependencies"][extra]}
for line in sorted(needed):
    if not line.startswith("irshrink["):
        print(
            line.replace("xgboost==", "xgboost-cpu==")
        )  # the same library without CUDA, half a gigabyte less
