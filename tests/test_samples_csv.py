"""Samples from CSV files: which column is what, which numbers are taken, and how others are refused."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.errors import SamplesError
from irshrink.samples import CsvOptions, InputSpec, Samples, load_samples

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int8)
SPEC = [InputSpec("x", (1, 2, 2), FLOAT)]
TWO = [InputSpec("a", (1, 2, 2), FLOAT), InputSpec("b", (1,), INT)]
VALUES = np.array([[[1, -2.5], [3e-8, 4]], [[0.1, 6], [7, 8]], [[9, 10], [11, 12.25]]], np.float32)
PLAIN = "p,q,r,s\n1,-2.5,3e-8,4\n.1,6.,7,+8\n9,10,11,12.25\n"


def load(folder: Path, text: str | bytes, specs: Sequence[InputSpec] = SPEC, **options: Any) -> Samples:
    path = folder / options.pop("name", "samples.csv")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    known = {key: options.pop(key) for key in ("class_names", "role") if key in options}
    declared = CsvOptions(**options) if options else None
    return load_samples(path, specs, csv=declared, **{"role": "evaluation", **known})


def labels_of(samples: Samples) -> Any:
    assert samples.labels is not None
    return samples.labels.tolist()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (PLAIN, {}),
        (PLAIN.replace("\n", "\r\n").rstrip() + "\n\n", {}),
        ("\ufeff" + PLAIN, {}),
        (PLAIN.replace(",", ";"), {"separator": ";"}),
        (PLAIN.replace(",", "\t"), {"name": "samples.tsv"}),
        (PLAIN.replace(",", "\t"), {"name": "samples.txt", "separator": "tab"}),
        (PLAIN.replace("p,q,r,s", "p, q, r,s").replace("9,10", '"9", 10 '), {}),
    ],
)
def test_a_row_is_a_sample(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    samples = load(tmp_path, text, **options)
    assert samples.labels is None
    np.testing.assert_array_equal(next(samples.batches(5))["x"], VALUES)
    picked = [feed["x"][0, 0, 0] for feed in samples.tail(1).feeds()]
    assert picked == [np.float32(0.1), 9]


def test_columns_by_name_of_their_input(tmp_path: Path) -> None:
    text = 'b,a[1],a.0,c,a.1.1,"a[1,0]",y\n' + "7,2,1,99,4,3,0\n-8,6,5,99,8,7,1\n"
    samples = load(tmp_path, text, TWO, ignore=("c",))
    batch = next(samples.batches(2))
    np.testing.assert_array_equal(batch["a"], np.arange(1, 9).reshape(2, 2, 2))
    assert batch["b"].tolist() == [7, -8]
    assert batch["b"].dtype == np.int8
    assert labels_of(samples) == [0, 1]


def test_declared_columns(tmp_path: Path) -> None:
    text = "id,s,y,r,q,p\n1,4,9,3e-8,-2.5,1\n2,8,9,7,6,.1\n3,12.25,9,11,10,9\n"
    chosen = load(tmp_path, text, columns=tuple("pqrs"), label=("none",))
    assert chosen.labels is None
    np.testing.assert_array_equal(next(chosen.batches(3))["x"], VALUES)
    rest = load(tmp_path, text.replace("id", "x.0"), ignore=("x.0",), label=("y",))
    assert next(rest.batches(3))["x"][0].reshape(-1).tolist() == np.array([4, 3e-8, -2.5, 1], FLOAT).tolist()
    named = load(tmp_path, "x.3,x.2,x.1,x.0\n1,2,3,4\n5,6,7,8\n", input="x")
    assert next(named.batches(1))["x"].reshape(-1).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        ("2 0 1", {}, [2, 0, 1]),
        ("dog cat dog", {"classes": ("cat", "dog")}, [1, 0, 1]),
        ("dog cat dog", {"class_names": ("owl", "cat", "dog")}, [2, 1, 2]),
        ("7 3 7", {"class_names": ("3", "7")}, [1, 0, 1]),
        ("1 0 1", {"class_names": ("cat", "dog")}, [1, 0, 1]),
        ("1.5 -2 3e2", {}, [1.5, -2.0, 300.0]),
        ("dog cat dog", {"role": "input"}, None),
        ("dog cat dog", {"role": "input", "label": ("label",)}, None),
    ],
)
def test_labels(tmp_path: Path, labels: str, options: dict[str, Any], expected: Any) -> None:
    rows = zip(PLAIN.splitlines(), ["label", *labels.split()], strict=True)
    samples = load(tmp_path, "".join(f"{row},{label}\n" for row, label in rows), **options)
    assert (None if samples.labels is None else samples.labels.tolist()) == expected


def test_several_columns_of_a_regression(tmp_path: Path) -> None:
    text = "u,p,q,r,s,v\n" + "1,1,2,3,4,5\n2,5,6,7,8,6\n"
    assert labels_of(load(tmp_path, text, label=("v", "u"))) == [[5, 1], [6, 2]]


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.tuples(NUMBERS, NUMBERS), st.integers(-128, 127), st.integers(0, 9)), min_size=2
    ),
    separator=st.sampled_from([",", ";", "\t", "|"]),
)
def test_a_table_is_the_same_as_an_npz(
    rows: list[Any], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same arrays, labels and digest, so the same build."""
    folder = tmp_path_factory.mktemp("same")
    specs = [InputSpec("a", (1, 2), FLOAT), InputSpec("b", (1, 1), INT)]
    arrays = [np.array([row[i] for row in rows]) for i in range(3)]
    np.savez(folder / "s.npz", a=arrays[0].astype(FLOAT), b=arrays[1][:, None].astype(INT), y=arrays[2])
    with (folder / "s.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerow(["y", "b", "first", "second"])
        writer.writerows([label, code, *(repr(v) for v in values)] for values, code, label in rows)
    declared = CsvOptions(separator=separator)
    one, other = (
        load_samples(folder / name, specs, csv=declared, role="input") for name in ("s.npz", "s.csv")
    )
    for left, right in zip(one.batches(3), other.batches(3), strict=True):
        assert {n: (v.dtype, v.tobytes()) for n, v in left.items()} == {
            n: (v.dtype, v.tobytes()) for n, v in right.items()
        }
    if len({str(row[:2]) for row in rows}) > 1 and np.any(arrays[0] != arrays[0].flat[0]):
        judged = [
            load_samples(folder / n, specs, csv=declared, role="evaluation") for n in ("s.npz", "s.csv")
        ]
        assert judged[0].digest() == judged[1].digest()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "row 1 is empty; it must name the columns."),
        ("p,q,r,s\n", {}, "holds no samples. Give at least one evaluation sample."),
        ("1,2,3,4\n5,6,7,8\n", {}, "row 1 holds numbers; it must name the columns."),
        (PLAIN.replace(",", ";"), {}, "row 1 is one column, 'p;q;r;s'. Declare the separator."),
        (PLAIN, {"separator": "pq"}, "separator = 'pq' separates nothing. Give a character such as ';'"),
        (PLAIN.replace("p,", ","), {}, "column 1 has no name. Name it in row 1, or leave the column out"),
        (PLAIN.replace("p,q", "q,q"), {}, "two columns are named 'q'. Give each its own name."),
        ("p,q,r\n1,2,3\n", {}, "the input 'x' takes 4 numbers and gets 3 columns, 'p' to 'r'. Declare label"),
        ("p,q,r,s,t\n1,2,3,4,5\n", {}, "the input 'x' takes 4 numbers and gets 5 columns, 'p' to 't'."),
        ("x,y,z,w\n1,2,3,4\n", {}, "gets 3 columns.* or label = 'none' if 'y' holds no labels."),
        ("p,q,r,s,y,label\n", {}, "has the columns 'y' and 'label'. Declare which one holds labels"),
        ("x.0,x.1,x.2,x.4\n", {}, "column 'x.4' is outside of the input 'x', whose sample has the shape"),
        ("x.0,x.1,x.2,s\n", {}, "column 's' belongs to no input. Name it like one, or declare ignore = 's'."),
        ("x.0,x.1,x.2\n", {}, "no column 'x.3'; the input 'x' takes 4 numbers."),
        ("x.0,x.1,x.2,x[2]\n", {}, r"columns 'x.2' and 'x\[2\]' are the same value of 'x'."),
        (PLAIN, {"label": ("specie",)}, "label = 'specie', which is no column. Known: p, q, r, s."),
        (PLAIN.replace("s", "t,s"), {"ignore": ("T",)}, "gets 5 .* 'T', which is declared, is no"),
        ("p,q,r,t,s\n", {"role": "input", "label": ("b",)}, "gets 5 .* 'b', which is declared"),
        ("p\n", {"ignore": ("p",)}, "takes 4 numbers and gets 0 columns. Declare label"),
        (PLAIN, {"columns": ("p", "p", "q", "r")}, "columns names 'p' twice."),
        (PLAIN, {"columns": ("p", "q"), "ignore": ("p",)}, "'p' is in columns and in ignore."),
        (PLAIN, {"label": ("p",), "ignore": ("p",)}, "the column 'p' of the labels is declared twice."),
        (PLAIN, {"input": "z"}, "input = 'z', which the model has not. Known: x."),
        (PLAIN.replace("6.,", ""), {}, "row 3 has 3 cells, the header has 4."),
        (PLAIN.replace("6.,", "6.,5,"), {}, "row 3 has 5 cells, the header has 4."),
        (PLAIN.replace(".1,", ","), {}, "row 3, column 'p' is empty. Give a number"),
        (PLAIN.replace(".1,", "nan,"), {}, "row 3, column 'p' is 'nan', which is no number."),
        (PLAIN.replace(".1,", "1_0,"), {}, "row 3, column 'p' is '1_0', which is no number."),
        (PLAIN.replace(".1,", "1 0,"), {}, "row 3, column 'p' is '1 0', which is no number."),
        (PLAIN.replace(".1,", "٣,"), {}, "row 3, column 'p' is '٣', which is no number."),
        (PLAIN.replace(".1,", '"1,5",'), {}, "row 3, column 'p' is '1,5'. Write a decimal point"),
        (PLAIN.replace(".1,", "1e39,"), {}, "row 3, column 'p' is '1e39', which is too large for float32."),
        (PLAIN.replace(".1,", f"{'1' * 9999},"), {}, r"row 3, column 'p' is '1{24}...', which is no number."),
        (PLAIN.replace(".1,", f"{'1' * 200000},"), {}, "row 3 is not CSV: field larger than field limit"),
        (PLAIN.replace(".1,", '"1,'), {}, "row 3 is not CSV: unexpected end of data"),
        (PLAIN.replace(".1,", "\0,"), {}, "row 3"),
        (PLAIN.replace("\n9", "\n\n9"), {}, "row 4 is empty. Leave it out."),
        (PLAIN.encode("utf-16"), {}, "is not UTF-8 text, in row 1 or soon after. Save"),
        (PLAIN.replace("9,10,11,12.25", "") + "1,-2.5,3e-8,4\n", {}, "row 4 is empty."),
        ("p,q,r,s\n1,1,1,1\n1,1,1,1\n", {}, "every value of every sample is 1.0. Give real evaluation"),
        ("p,q,r,s,y\n1,2,3,4,\n", {}, "row 2, column 'y' is empty. Every sample needs its label."),
        ("p,q,r,s,y\n1,2,3,4,0\n1,2,3,5,-1\n", {}, "row 3 has the label -1; labels .* must not be negative."),
        ("p,q,r,s,y\n1,2,3,4,b\n1,2,3,5,a\n", {}, "row 2, column 'y': which class 'b' is, is not .*= a,b"),
        (
            "p,q,r,s,y\n1,2,3,4,cat\n1,2,3,5,dgo\n",
            {"classes": ("cat", "dog")},
            "row 3, column 'y': 'dgo' is no class. Did you mean 'dog'?",
        ),
        ("p,q,r,s,y\n1,2,3,4,0\n", {"classes": ("cat", "dog")}, "row 2, column 'y': '0' is no class."),
        ("p,q,r,s,y\n1,2,3,4,0\n", {"class_names": ("3", "7")}, "row 2, column 'y': '0' is no class."),
        ("p,q,r,s,y\n1,2,3,4,.5\n1,2,3,5,nan\n", {}, "row 3, column 'y': 'nan' is neither a"),
        ("p,q,r,s,y\n1,2,3,4,1e400\n", {}, "row 2, column 'y': '1e400' is neither a class"),
        (PLAIN, {"classes": ("a", "a")}, "classes names 'a' twice. Give each class its own name."),
        ("u,p,q,r,s,v\n1,1,2,3,4,b\n", {"label": ("v", "u")}, "several columns of labels must hold"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, text: str | bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        load(tmp_path, text, **options)


@pytest.mark.parametrize(
    ("dtype", "cell", "message"),
    [
        (np.int8, "128", "is '128'; the input 'x' takes integers from -128 to 127."),
        (np.uint8, "-1", "is '-1'; the input 'x' takes integers from 0 to 255."),
        (np.int64, "1.0", "is '1.0'; the input 'x' takes integers from"),
        (np.bool_, "2", "is '2'; the input 'x' takes integers from 0 to 1."),
    ],
)
def test_integers(tmp_path: Path, dtype: Any, cell: str, message: str) -> None:
    spec = [InputSpec("x", (1, 2), np.dtype(dtype))]
    samples = load(tmp_path, "p,q\n0,1\n1,0\n", spec)
    assert next(samples.batches(2))["x"].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(SamplesError, match=f"row 3, column 'q' {message}"):
        load(tmp_path, f"p,q\n0,1\n1,{cell}\n", spec)


def test_two_inputs_need_names(tmp_path: Path) -> None:
    with pytest.raises(
        SamplesError, match=r"the inputs 'a', 'b' have no columns of their own. .* 'a.0', 'a.1'"
    ):
        load(tmp_path, "p,q,r,s,t\n1,2,3,4,5\n", TWO)


def test_an_endless_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irshrink.samples.records._LONGEST_ROW", 1000)
    load(tmp_path, PLAIN + "\n" * 2000)
    for text in ("1," * 600, '"\n",' * 300):
        with pytest.raises(SamplesError, match=r"a row has more than 1,000 characters. End rows"):
            load(tmp_path, PLAIN + text)


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    samples = load(tmp_path, PLAIN)
    samples.path.write_text(PLAIN[:21])
    with pytest.raises(SamplesError, match=r"the file became shorter while it was read. Start again."):
        samples.digest()


def test_declared_labels_may_be_missing_where_nobody_is_judged(tmp_path: Path) -> None:
    for role in ("input", "calibration"):
        assert load(tmp_path, PLAIN, role=role, label=("species",), ignore=("id",)).labels is None


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    text=st.text(st.sampled_from('x.012[],;"\n\r-e y\0٣'), max_size=60),
    role=st.sampled_from(["input", "evaluation"]),
)
def test_any_text_is_refused_or_read(text: str, role: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A sentence or samples, never another exception."""
    folder = tmp_path_factory.mktemp("any")
    spec = [InputSpec("x", (1, 2), FLOAT)]
    for content in (text, "x.0,x.1,y\n" + text, "x.0,x.1\n0,1\n" + text):
        with contextlib.suppress(SamplesError):
            load(folder, content, spec, role=role).digest()
