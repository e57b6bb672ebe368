"""What is declared about data: options, tables of a recipe, and that the form of data changes no build."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import irshrink
from irshrink.class_names import CLASSES, COLUMNS, score_names
from irshrink.declared import parse_data_option, parse_declared, reading_of
from irshrink.errors import RecipeError, SamplesError
from irshrink.execute import execute
from irshrink.module import module_from_text
from irshrink.recipe import Recipe, make_recipe
from irshrink.samples import AudioOptions, CsvOptions, ImageOptions


def test_options_become_tables() -> None:
    given = {"images": ["mean=1,2,3", "std=4"], "csv": ["label=a, b", "separator=="], "audio": []}
    assert parse_declared(given) == {
        "images": {"mean": [1.0, 2.0, 3.0], "std": [4.0]},
        "csv": {"label": ["a", "b"], "separator": "="},
    }
    audio = parse_declared({"audio": ["rate=8000", "seconds=0.5", "samples=4", "cut=end", "classes=x"]})
    assert audio["audio"] == {"rate": 8000, "seconds": 0.5, "samples": 4, "cut": "end", "classes": ["x"]}


def test_tables_become_options() -> None:
    plain = {"csv": {"label": "y", "ignore": ["a"]}, "audio": {"rate": 8000}, "seed": 1}
    assert reading_of(plain, "here") == {
        "image": None,
        "csv": CsvOptions(label=("y",), ignore=("a",)),
        "audio": AudioOptions(rate=8000),
    }
    recipe = make_recipe({"target": "host", "images": {"mean": 1, "std": [2, 3, 4]}, **plain})
    assert recipe.reading == {
        "image": ImageOptions(mean=(1.0,), std=(2.0, 3.0, 4.0)),
        "csv": CsvOptions(label=("y",), ignore=("a",)),
        "audio": AudioOptions(rate=8000),
    }
    assert Recipe(target="host").reading == {"image": None, "csv": None, "audio": None}


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("audio", {"cut": "end"}, "audio needs rate; the samples a second that the model was trained with."),
        ("audio", {"rat": 1}, "audio has no option 'rat'. Did you mean 'rate'?"),
        ("audio", {"rate": 1, "cut": "center"}, "audio.cut: 'center' is not known. Did you mean 'centre'?"),
        ("audio", {"rate": "fast"}, "audio.rate: Expected `int`, got `str`."),
        ("csv", {"labels": "y"}, "csv has no option 'labels'. Did you mean 'label'?"),
        ("csv", {"columns": [1]}, r"csv.columns.* Expected `str`, got `int`."),
        ("images", {"mean": 1}, r"images needs std; value = \(pixel"),
    ],
)
def test_wrong_tables(table: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"here: {message}"):
        reading_of({table: values}, "here")
    with pytest.raises(RecipeError, match=f"there: {message}"):
        make_recipe({"target": "host", table: values}, "there")


def test_options_that_cannot_be_read() -> None:
    for table, text, message in (
        ("csv", "label", "csv option 'label' cannot be read. Write key=value, such as label=species."),
        ("audio", "rate=16k", "audio option 'rate=16k': '16k' is not a number."),
        ("images", "std=", "image option 'std=' cannot be read. Write key=value, such as mean=127."),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_data_option(table, text)


def test_names_of_the_models_classes() -> None:
    module = module_from_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x) => (float[1,2] y, float[1,2] z)'
        "{ y = Relu(x)  z = Neg(x) }"
    )
    assert score_names(module.model) == ()
    module.model.metadata_props[f"{COLUMNS}z"] = json.dumps(["cat", "dog"])
    module.model.metadata_props[f"{CLASSES}y"] = json.dumps(["cat", "dog"])
    assert score_names(module.model) == ("cat", "dog")
    module.model.metadata_props[f"{CLASSES}y"] = json.dumps(["dog", "cat"])
    assert score_names(module.model) == ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with named classes, and the same samples as arrays, rows and recordings."""
    folder = tmp_path_factory.mktemp("forms")
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 8] x) => (float[1, 3] y) { y = Gemm (x, w) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(rng.normal(size=(8, 3)).astype(np.float32), "w"))
    entry = proto.metadata_props.add()
    entry.key, entry.value = f"{COLUMNS}y", json.dumps(["no", "off", "yes"])
    onnx.save(proto, folder / "net.onnx")
    sound = rng.integers(-32768, 32767, (6, 8)).astype("<i2")
    labels = np.array([0, 0, 1, 1, 2, 2])
    names = [("no", "off", "yes")[label] for label in labels]
    np.savez(folder / "s.npz", x=sound / np.float32(32768), y=labels)
    rows = [
        ",".join([*map(repr, (row / 32768).tolist()), name]) for row, name in zip(sound, names, strict=True)
    ]
    (folder / "s.csv").write_text("\n".join(["a,b,c,d,e,f,g,h,label", *rows]))
    for i, (row, name) in enumerate(zip(sound, names, strict=True)):
        (folder / "wav" / name).mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / "wav" / name / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 8, "NONE", ""))
            file.writeframes(row.tobytes())
    return folder


def compiled(folder: Path, form: str) -> dict[str, Any]:
    """Build from samples of one form into ``build-FORM``; the report."""
    data = str(folder / form)
    recipe = make_recipe(
        {"target": "host", "calibration": data, "eval": data, "audio": {"rate": 16000}, "test_inputs": 2}
    )
    return irshrink.compile_model(folder / "net.onnx", recipe, folder / f"build-{form}")


@pytest.fixture(scope="module")
def build(folder: Path) -> Path:
    compiled(folder, "s.npz")
    return folder / "build-s.npz"


def contents(build: Path) -> dict[str, bytes]:
    """Of all files but the report, which has notes on data."""
    files = sorted(p for p in build.rglob("*") if p.is_file() and not p.name.startswith("report."))
    return {str(p.relative_to(build)): p.read_bytes() for p in files}


def test_the_form_of_data_changes_no_byte(folder: Path, build: Path) -> None:
    expected, outputs = contents(build), []
    assert "recipe.lock" in expected
    for form in ("s.csv", "wav"):
        notes = compiled(folder, form)["notes"]
        assert any("a folder of recordings was not used" in note for note in notes) == (form == "s.csv")
        assert contents(folder / f"build-{form}") == expected
    for form in ("s.npz", "s.csv", "wav"):
        run = execute(build, folder / form, output=folder / "out.npz")
        assert (run["inputs"], run["mismatched_bytes"]) == (6, 0)
        outputs.append(np.load(folder / "out.npz")["y"].tobytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_run_may_declare_what_the_build_did_not(folder: Path, build: Path, tmp_path: Path) -> None:
    rows = (folder / "s.csv").read_text().replace(",", ";")
    (tmp_path / "s.csv").write_text(rows)
    with pytest.raises(SamplesError, match=r"Declare the separator"):
        execute(build, tmp_path / "s.csv")
    assert execute(build, tmp_path / "s.csv", declared={"csv": {"separator": ";"}})["inputs"] == 6
    with pytest.raises(SamplesError, match=r"--stored is about arrays of an .npz, and this is a table."):
        execute(build, tmp_path / "s.csv", stored=True)
