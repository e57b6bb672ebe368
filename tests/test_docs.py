"""Documents: links lead somewhere, commands are the real ones, and the code they show works."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from irshrink.cli import app
from irshrink.registry import pass_table
from irshrink.testing import check_case, read_cases

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "models" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


def test_ci_runs_the_readme_s_test_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    tests = [line for line in lines if "pytest" in line]
    assert len(tests) == 1
    assert tests[0] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", ["planning.md", "integration.md"])
def test_options_that_pages_name_are_options(name: str) -> None:
    text = (ROOT / "docs" / name).read_text("utf-8")
    known = {option for one in app.commands.values() for each in one.params for option in each.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


def test_the_pass_that_the_guide_writes_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "writing-a-pass.md").read_text("utf-8")
    code = re.search(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    line = re.search(r'^    "(fuse-double-relu)": "(.*?):(.*?)"', guide, re.MULTILINE)
    test = re.search(r"^````markdown\n(.*?)^````", guide, re.DOTALL | re.MULTILINE)
    assert code is not None
    assert line is not None
    assert test is not None
    module = ModuleType(line[2])
    monkeypatch.setitem(sys.modules, line[2], module)
    exec(compile(code[1], "writing-a-pass.md", "exec"), module.__dict__)
    monkeypatch.setitem(pass_table(), line[1], f"{line[2]}:{line[3]}")
    file = tmp_path / f"{line[1]}.md"
    file.write_text(test[1])
    cases = read_cases(file)
    assert cases
    for case in cases:
        check_case(case)
