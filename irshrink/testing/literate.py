"""Literate tests of passes: a Markdown file says why, and shows a model before and after.

``tests/passes/<pass-name>.md`` has a section (``## title``) for each case. A section holds fenced blocks:

    ```toml options       the pass's options, when they are not the defaults
    ```onnx before        the model, in ONNX's textual syntax; the ``<ir_version, opset_import>`` header may
                          be left out (IR version 9, opset 20)
    ```onnx after         what must come out of it, or:
    ```unchanged          nothing changes; each line is part of a note that the pass must give
    ```notes              the same lines for a case that changes

The word ``shapes`` behind ``onnx before`` keeps shape inference away from the model and makes the types of
intermediate values part of the comparison.

A case runs through the :class:`~irshrink.pipeline.Pipeline` with verification. Structure is compared first,
as text with values renamed in order, then the numbers of the constants; and unless the pass is lossy, the
models before and after are run on random inputs. Plug-ins use this for their own passes.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from irshrink.graph.shapes import infer_shapes
from irshrink.graph.text import canonical, model_text, parse_text, tidy, without_numbers
from irshrink.instruments import difference, largest_magnitude
from irshrink.module import Module
from irshrink.pipeline import Pass, Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.verify import verify_structure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Array = npt.NDArray[Any]

DEFAULT_HEADER = '<\n   ir_version: 9,\n   opset_import: ["" : 20]\n>\n'
#: Numbers in text are exact; folding in another NumPy may round the last bit differently. What a lossy pass
#: computes from samples comes through ONNX Runtime, whose sums differ between machines.
_RTOL = {False: 1e-6, True: 1e-4}
#: Of the largest output, on the small models of tests; see CheckNumerics for the reasoning.
_TOLERANCE = 1e-5
_SAMPLES = 8


@dataclass
class Case:
    """One section of a literate test. ``after`` is None for a case where nothing may change."""

    path: Path
    title: str
    line: int
    before: str = ""
    after: str | None = None
    unchanged: bool = False
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    shapes: bool = False
    after_lines: tuple[int, int] = (0, 0)

    @property
    def pass_name(self) -> str:
        return self.path.stem

    def __str__(self) -> str:
        return f"{self.pass_name}: {self.title}"


def read_cases(path: Path) -> list[Case]:
    """The cases of a literate test file.

    Raises:
        ValueError: a block that means nothing, or a section without before, or without after and unchanged.
    """
    cases: list[Case] = []
    for title, line, blocks in _sections(path.read_text(encoding="utf-8")):
        case = Case(path, title, line)
        for info, start, text in blocks:
            _take_block(case, info, start, text)
        if not blocks:
            continue
        if not case.before or (case.after is None) != case.unchanged:
            raise ValueError(f"{path}:{line}: '{title}' needs one before, and one of after and unchanged")
        cases.append(case)
    return cases


def check_case(case: Case) -> None:
    """Run a case.

    Raises:
        AssertionError: what came out differs from the text, a note is missing, or numbers changed.
        PassError: the pass raised, left a broken graph, or wrote into an array.
    """
    module, result, notes = _run(case)
    expected = case.before if case.after is None else case.after
    lossy = make_pass(case.pass_name, case.options).lossy
    _check_structure(case, _parse(case, expected), result, _RTOL[lossy])
    for note in case.notes:
        assert any(note in given for given in notes), f"{case}: no note says {note!r}, but: {notes}"
    if case.unchanged:
        assert not any(record.changed for record in result.history), (
            f"{case}: the pass says it changed the model"
        )
    if not lossy:
        _check_outputs(case, module, result)


def updated_text(path: Path) -> str:
    """The file with every after block replaced by what the pass really gives."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for case in reversed(read_cases(path)):
        if case.after is None:
            continue
        start, end = case.after_lines
        _, result, _ = _run(case)
        text = model_text(tidy(result.model), max_elements=None, shapes=case.shapes)
        lines[start:end] = text.removeprefix(DEFAULT_HEADER).rstrip().splitlines()
    return "\n".join(lines) + "\n"


def _sections(text: str) -> Iterator[tuple[str, int, list[tuple[str, int, str]]]]:
    """Title, line number, and fenced blocks as (info, first line, text) of every section."""
    title, number, blocks = "", 0, []
    info: str | None = None
    body: list[str] = []
    for index, line in enumerate(text.splitlines()):
        fence = re.match(r"```(.*)", line)
        if info is not None and fence:
            blocks.append((info, index - len(body), "\n".join(body)))
            info = None
        elif info is not None:
            body.append(line)
        elif fence:
            info, body = fence[1].strip(), []
        elif line.startswith("## "):
            yield title, number, blocks
            title, number, blocks = line[3:].strip(), index + 1, []
    yield title, number, blocks


def _take_block(case: Case, info: str, start: int, text: str) -> None:
    if info in ("onnx before", "onnx before shapes"):
        case.before, case.shapes = text, info.endswith("shapes")
    elif info == "onnx after":
        case.after, case.after_lines = text, (start, start + len(text.splitlines()))
    elif info == "toml options":
        case.options = tomllib.loads(text)
    elif info in ("unchanged", "notes"):
        case.unchanged = info == "unchanged"
        case.notes = tuple(line.strip() for line in text.splitlines() if line.strip())
    else:
        raise ValueError(f"{case.path}:{start}: a block of unknown kind '{info}'")


def _parse(case: Case, text: str) -> Module:
    import onnx

    source = text if text.lstrip().startswith("<") else DEFAULT_HEADER + text
    try:
        module = Module(ir.from_proto(parse_text(source)))
    except onnx.parser.ParseError as e:
        raise ValueError(f"{case.path}:{case.line}: {case.title}: {e}") from e
    if not case.shapes:
        infer_shapes(module.model)
    _protect(module)
    return module


def _run(case: Case) -> tuple[Module, Module, list[str]]:
    """The model before, the model after, and the notes."""
    module = _parse(case, case.before)
    verify_structure(module)
    if all(value.shape is not None and value.shape.is_static() for value in module.graph.inputs):
        module.calibration = random_samples(input_specs(module.graph), _SAMPLES)
    result = module.clone()
    step: Pass = make_pass(case.pass_name, case.options)
    Pipeline([step], verify=verify_structure).run(result, load_target("host"))
    return module, result, [note for record in result.history for note in record.notes]


def _check_structure(case: Case, expected: Module, actual: Module, rtol: float) -> None:
    wanted, given = canonical(expected.model), canonical(actual.model)
    texts = [model_text(without_numbers(m), max_elements=None, shapes=case.shapes) for m in (wanted, given)]
    if texts[0] != texts[1]:
        names = ("expected", "actual")
        diff = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), *names, lineterm="", n=99)
        full = model_text(tidy(actual.model), max_elements=None, shapes=case.shapes)
        raise AssertionError("\n".join((f"{case}: another graph came out", *diff, "", full)))
    for name, value in wanted.graph.initializers.items():
        old, new = value.const_value, given.graph.initializers[name].const_value
        assert old is not None
        assert new is not None
        np.testing.assert_allclose(new.numpy(), old.numpy(), rtol=rtol, err_msg=f"{case}: constant {name}")


def _check_outputs(case: Case, before: Module, after: Module) -> None:
    from irshrink import onnxrt

    rng = np.random.default_rng(0)
    sessions = [onnxrt.session(module.model, optimize=False) for module in (before, after)]
    for _ in range(3):
        feed = {
            str(value.name): _random(rng, _any_shape(value), value.dtype.numpy())
            for value in before.graph.inputs
            if value.dtype is not None and not value.is_initializer()
        }
        old, new = (onnxrt.run(session, feed) for session in sessions)
        assert list(old) == list(new), f"{case}: the outputs have other names"
        for name, array in old.items():
            reason = difference(array, new[name], _TOLERANCE * largest_magnitude([array]))
            assert reason is None, f"{case}: output '{name}' changed: {reason}"


def _protect(module: Module) -> None:
    """Make the arrays read-only: a clone shares them, so no pass may write into one."""
    for value in module.graph.initializers.values():
        assert value.const_value is not None
        array = value.const_value.numpy()
        array.setflags(write=False)
        value.const_value = ir.tensor(array, name=value.name)


def _any_shape(value: ir.Value) -> tuple[int, ...]:
    dims = () if value.shape is None else tuple(value.shape)
    return tuple(dim if isinstance(dim, int) else 2 for dim in dims)


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 4, shape).astype(dtype)
