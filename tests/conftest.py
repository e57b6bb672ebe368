"""Options of the test suite."""

from __future__ import annotations

import pytest

# First, so that ONNX Runtime's telemetry is off whatever a test imports.
import irshrink.onnxrt  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-literate",
        action="store_true",
        help="rewrite the after blocks of tests/passes/*.md with what the passes give now",
    )
