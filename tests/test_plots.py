"""Pictures in docs/ are those of the figures in benchmarks/measured.toml."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def plots() -> Any:
    spec = importlib.util.spec_from_file_location("plots", ROOT / "benchmarks" / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_of_the_figures(plots: Any) -> None:
    figures = plots.figures()
    assert sorted(figures) == sorted(file.stem for file in (ROOT / "docs" / "plots").glob("*.svg"))
    for name, figure in figures.items():
        text = (ROOT / "docs" / "plots" / f"{name}.svg").read_text("utf-8")
        assert text == plots.drawn(figure), f"{name}: run python benchmarks/plots.py"
        assert len(text) < 40_000


def test_bars_are_to_scale(plots: Any) -> None:
    figure = {"title": "a < b", "unit": "bytes", "by": ["us", "them"], "groups": {"net": [50.0, 200.0]}}
    svg = ElementTree.fromstring(plots.drawn(figure))
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(next(group.iter(f"{space}rect")).attrib["width"]) for group in svg.iter(f"{space}g")]
    titles = [next(group.iter(f"{space}title")).text for group in svg.iter(f"{space}g")]
    assert bars[0] / bars[1] == pytest.approx(0.25)
    assert titles == ["net, us: 50.0 bytes", "net, them: 200.0 bytes"]
