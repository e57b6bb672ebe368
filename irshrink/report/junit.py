"""A build as a JUnit test report, which continuous integration shows: one test for each promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from irshrink.errors import BudgetError, IrshrinkError
from irshrink.report.summary import measured

#: What a budget's message begins with.
_BUDGETS = ("accuracy", "flash", "ram", "size", "instructions", "latency")


def junit_of_report(report: Mapping[str, Any], name: str) -> str:
    """Everything that a build kept; ``name`` is the suite's, the model."""
    emulation, accuracy, size = report["emulation"], report["accuracy"], report["size"]
    recipe = report["recipe"]
    tests = {"build": f"for {report['board'] or report['target']}"}
    if emulation["why_not_run"] is None:
        tests["bytes"] = f"{emulation['compared_bytes']} output bytes equal the reference"
    if accuracy["max_drop"] is not None:
        before, after = (measured(accuracy, accuracy[key]) for key in ("original", "compiled"))
        tests["accuracy"] = f"{accuracy['metric']}: {before} before, {after} after"
    for budget, used in (("flash", size["flash_bytes"]), ("ram", size["ram_bytes"])):
        if recipe.get(budget) is not None:
            tests[budget] = f"{used:,} bytes of {recipe[budget]:,}"
    if recipe.get("max_size") is not None:
        tests["size"] = f"within {recipe['max_size']:,} bytes"
    if recipe.get("instructions") is not None:
        tests["instructions"] = f"{emulation['instructions']:,} of {recipe['instructions']:,}"
    if report["latency_seconds"] is not None:
        tests["latency"] = f"{report['latency_seconds'] * 1e3:.3g} ms on this machine"
    return _suite(name, tests, None)


def junit_of_error(error: IrshrinkError, name: str) -> str:
    """A build that there is not: the budget that it misses, or the build itself, failed."""
    text = str(error)
    first = text.partition(":")[0].lower()
    failed = "build"
    if isinstance(error, BudgetError):  # of several that no plan keeps together no one is to blame
        failed = first if first in _BUDGETS else "plan"
    return _suite(name, {failed: ""}, text)


def _suite(name: str, tests: Mapping[str, str], failure: str | None) -> str:
    counts = {"tests": str(len(tests)), "failures": str(int(failure is not None)), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": f"irshrink {name}", **counts})
    for test, said in tests.items():
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"irshrink.{name}", "name": test})
        if failure is not None:
            ElementTree.SubElement(case, "failure", {"message": failure}).text = failure
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
