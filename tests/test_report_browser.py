"""The pages in a real browser: nothing overlaps, nothing is too wide, colours can be told apart."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from irshrink.report.page import render_page, render_plan_page
from irshrink.report.report import AccuracyFacts, build_report
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import example_graph, facts

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in NAMES if (path := shutil.which(name)) is not None), None)
AUDIT = (Path(__file__).parent / "browser" / "audit.js").read_text("utf-8")
#: What the page of the frame hands over is kept where --dump-dom prints it.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" src="{name}" style="border:0;width:{width}px;height:900px"></iframe><pre id="audit"></pre>
<script>onmessage = (e) => {{ document.getElementById("audit").textContent = e.data; }};</script>
"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed: apt-get install chromium")


def audit(page: str, folder: Path, width: int, *, dark: bool) -> dict[str, Any]:
    """What the audit says of a page in a window of that width."""
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{AUDIT}</script></body>"), "utf-8")
    (folder / "frame.html").write_text(FRAME.format(name="page.html", width=width), "utf-8")
    command = [
        str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width + 40},1000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000",
        "--dump-dom", (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="audit">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[:500]
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert (result["width"], result["dark"]) == (width, dark)
    return result


def build_page() -> str:
    """A build with everything that a page can show."""
    accuracy = AccuracyFacts("top-1", 0.938, 0.9296, 1000, title="Top-1 accuracy", max_drop=0.01)
    made = dataclasses.replace(facts("nucleo-f446re", accuracy), plan=example_plan(), graph=example_graph())
    return render_page(build_report(made))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_build_in_the_browser(width: int, dark: bool, tmp_path: Path) -> None:
    assert audit(build_page(), tmp_path, width, dark=dark)["wrong"] == []


def crowded() -> dict[str, Any]:
    """Sixty layers with the long names that exporters give, numbers of nine digits, a plan of many knobs."""
    made = build_report(dataclasses.replace(facts(), plan=example_plan(), graph=example_graph()))
    plan, layer, row = made["plan"], made["layers"][0], made["graph"][0]
    names = [
        f"model_1/MobilenetV2_{i}/expanded_conv_{i}/depthwise/BatchNorm{i % 7}/WMW_{i}" for i in range(60)
    ]
    made["layers"] = [
        {
            **layer,
            "name": name,
            "origin": [name, f"{name}/Relu6"],
            "instructions": 987_654_321,
            "macs": i << 22,
        }
        for i, name in enumerate(names)
    ]
    made["arena"] = [
        {"name": name, "offset": 40 * (i % 20), "bytes": 400 + i, "first": i, "last": min(i + i % 9, 60)}
        | {"rows": 3 if i % 5 == 0 else None}
        for i, name in enumerate(names)
    ]
    made["graph"] = [
        {**row, "name": name, "inputs": sorted({max(0, i - 1), max(0, i - 4)} - {i}), "kinds": ["channels"]}
        | {"details": [f"{i} of 1,280 outputs removed, and {i} of 320 inputs"], "bytes": [1 << 26, 1 << 24]}
        | {"op_types": ["Conv", "HardSigmoid", "Mul", "Reshape"], "instructions": [987_654_321, 876_543_210]}
        for i, name in enumerate(names)
    ]
    plan["knobs"] = [
        {**knob, "title": f"{knob['title']} {'x' * i}"} for i, knob in enumerate(plan["knobs"] * 3)
    ]
    for one in plan["evaluations"]:
        if one["figures"]:
            one["figures"] = {key: value * 97 for key, value in one["figures"].items()}
    return made


@pytest.mark.parametrize("width", [1280, 360])
def test_a_crowded_build_in_the_browser(width: int, tmp_path: Path) -> None:
    assert audit(render_page(crowded()), tmp_path, width, dark=width == 360)["wrong"] == []


def test_a_plan_that_was_not_found_in_the_browser(tmp_path: Path) -> None:
    page = render_plan_page(example_plan(met=False), "kws")
    assert audit(page, tmp_path, 360, dark=False)["wrong"] == []


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    bad = (
        '<p style="position:absolute;top:0;left:0">a text</p><p style="position:absolute;top:2px;left:0">two'
        '</p><p style="color:#888;background:#999">pale</p><div style="width:500px">wide</div></main>'
    )
    page = render_plan_page(example_plan(), "kws").replace("</main>", bad)
    told = " ".join(audit(page, tmp_path, 360, dark=False)["wrong"])
    assert "lies on" in told
    assert "p 'pale' has a contrast of 1.24" in told
    assert "div 'wide' is wider than the window" in told
    assert "the page scrolls sideways" in told
