"""Models of other frameworks: which format a path is, how converters run, and how they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from irshrink import cli
from irshrink.errors import ModelError, RecipeError, ToolError
from irshrink.frontends import detect, interpreter, process
from irshrink.frontends.convert import digest, import_model, model_files
from irshrink.frontends.detect import frontend_of
from irshrink.frontends.frontend import Frontend
from irshrink.frontends.interpreter import VARIABLE, find_interpreter
from irshrink.frontends.options import parse_option
from irshrink.frontends.read import read_model
from irshrink.frontends.table import FRONTENDS, ONNX, REFUSED
from irshrink.recipe import load_recipe

FAKE = Frontend(
    name="fake", title="Fake", suffixes=(".fake",), extra="fake", needs=("onnx",), script="fake.py"
)

GOOD = """
import sys, onnx
text = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }'
model = onnx.parser.parse_model(text)
model.graph.node[0].name = "first/Relu"
model.graph.node[0].doc_string = "File /home/somebody/net.py, line 3"
model.metadata_props.add(key="time", value="12:00")
onnx.save(model, sys.argv[2])
"""

Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a script the converter of .fake files; gives a model of that format."""
    monkeypatch.setattr(process, "CONVERTERS", tmp_path / "converters")
    monkeypatch.setattr(detect, "FRONTENDS", (FAKE,))
    monkeypatch.delenv(VARIABLE, raising=False)

    def write(script: str) -> Path:
        (tmp_path / "converters").mkdir(exist_ok=True)
        (tmp_path / "converters" / "fake.py").write_text(script, "utf-8")
        model = tmp_path / "net.fake"
        model.write_text("a model", "utf-8")
        return model

    return write


def converted(model: Path, folder: Path, **options: str) -> str:
    """The message that converting ends with."""
    (folder / "work").mkdir()
    with pytest.raises((ModelError, ToolError)) as caught:
        import_model(model, folder / "work", options)
    return str(caught.value)


def test_every_row_is_complete() -> None:
    names = [frontend.name for frontend in FRONTENDS]
    assert len(set(names)) == len(names)
    suffixes = [s for row in (ONNX, *FRONTENDS, *REFUSED) for s in row.suffixes]
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    for frontend in FRONTENDS:
        assert frontend.suffixes or frontend.marker
        assert bool(frontend.script) != bool(frontend.reader), frontend.name
        if frontend.script:
            assert (process.CONVERTERS / frontend.script).is_file()
            assert frontend.extra
            assert frontend.needs
        assert set(frontend.path_options) <= set(frontend.options)


def test_extras_of_the_table_are_in_the_package() -> None:
    if sys.version_info < (3, 11):
        import tomli as tomllib
    else:
        import tomllib
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {frontend.extra for frontend in FRONTENDS if frontend.extra} <= set(extras)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".joblib"])
def test_pickles_are_never_opened(suffix: str, tmp_path: Path) -> None:
    model = tmp_path / f"net{suffix}"
    model.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ModelError, match="is a Python pickle, which can run any code"):
        frontend_of(model)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("suffix", "says"), [(".safetensors", "holds weights alone"), (".bin", "is a checkpoint")]
)
def test_weights_alone_are_no_model(suffix: str, says: str, tmp_path: Path) -> None:
    model = tmp_path / f"net{suffix}"
    model.touch()
    with pytest.raises(ModelError, match=f"{says}.* and no graph"):
        frontend_of(model)


def test_formats_by_suffix_and_by_folder(tmp_path: Path) -> None:
    for name in ("net.KERAS", "net.pt2", "net.anything", "net.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    found = {path.name: frontend_of(path).name for path in sorted(tmp_path.iterdir())}
    assert found == {
        "net.KERAS": "keras",
        "net.anything": "onnx",
        "net.onnx": "onnx",
        "net.pt2": "pytorch",
        "saved": "savedmodel",
    }


def test_a_converted_model_is_a_module_without_traces(install: Install) -> None:
    model = install(GOOD)
    module, imported = read_model(model)
    assert [node.name for node in module.graph] == ["first/Relu"]
    assert module.source == model
    text = module.to_proto().SerializeToString()
    assert b"somebody" not in text
    assert b"12:00" not in text
    assert imported.frontend is FAKE
    assert imported.files == (model,)
    assert imported.versions["onnx"] == onnx.__version__


def test_import_writes_the_same_bytes_again(install: Install, tmp_path: Path) -> None:
    model = install(GOOD)
    for name in ("a.onnx", "b.onnx"):
        assert cli.run(["import", str(model), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_converter_gets_options_and_a_clean_environment(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    model = install(
        GOOD + "import json, os\n"
        "assert json.loads(sys.argv[3]) == {}, sys.argv\n"
        "assert 'PYTHONPATH' not in os.environ and os.environ['PYTHONHASHSEED'] == '0'\n"
        "assert os.getcwd() == os.environ['TMPDIR'] == os.path.dirname(sys.argv[2])\n"
        "assert not sys.stdin.read()\n"
    )
    (tmp_path / "work").mkdir()
    assert import_model(model, tmp_path / "work", {"seconds": "60"}).path.parent == tmp_path / "work"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "raise ValueError('layer 7 is odd')",
            "the Fake converter failed: ValueError: layer 7 is odd. Check",
        ),
        ("import sys; sys.exit('error: no layers. Train one.')", "net.fake: no layers. Train one."),
        (
            "import sys; print('all went wrong', file=sys.stderr); sys.exit(3)",
            "failed: all went wrong. Check",
        ),
        ("import sys; sys.exit(3)", "failed: it said nothing."),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by SIGKILL (too little memory?)",
        ),
        ("pass", "the Fake converter wrote no model"),
        ("import sys; open(sys.argv[2], 'w').close()", "the Fake converter wrote no model"),
        ("import os, sys; os.symlink('/etc/hostname', sys.argv[2])", "the Fake converter wrote no model"),
        ("import sys; sys.exit('error: \\x1b[31mred\\x07\\x1b[0m\\x00 ' + 'a' * 9000)", "red aaa"),
    ],
)
def test_failures_become_sentences(install: Install, tmp_path: Path, script: str, message: str) -> None:
    said = converted(install(script), tmp_path)
    assert message in " ".join(said.split())
    assert said.isprintable()
    assert len(said) < 1000


def test_only_the_end_of_what_a_converter_says_is_read(install: Install, tmp_path: Path) -> None:
    script = "import sys\nfor _ in range(30000): print('x' * 100)\nsys.exit('error: at last.')"
    assert converted(install(script), tmp_path).endswith("at last.")


def test_a_time_limit_ends_a_converter_and_its_children(install: Install, tmp_path: Path) -> None:
    child = "import time, pathlib; time.sleep(2); pathlib.Path('late').touch()"
    script = (
        f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    )
    said = converted(install(script), tmp_path, seconds="1")
    assert said.endswith("was stopped after 1 seconds. Allow more with --frontend seconds=3600.")
    time.sleep(1.5)
    assert not (tmp_path / "work" / "late").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux 6.2 or later (Landlock)")
def test_a_converter_cannot_write_elsewhere(install: Install, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    said = converted(install(f"open({str(outside)!r}, 'w')"), tmp_path)
    if "PermissionError" not in said:
        assert not confinable(), said
        return
    assert not outside.exists()


def confinable() -> bool:
    """Whether this kernel lets a process give up writing."""
    script = "import sys; from pathlib import Path; from irshrink.isolation.confine import confine_writes"
    command = [sys.executable, "-c", f"{script}; sys.exit(not confine_writes(Path('/tmp')))"]
    return subprocess.run(command, check=False).returncode == 0


def test_what_is_written_must_be_onnx(install: Install) -> None:
    model = install("import sys; open(sys.argv[2], 'w').write('hello')")
    with pytest.raises(
        ModelError, match=r"converted from Fake cannot be used: not a readable ONNX"
    ) as caught:
        read_model(model)
    assert "/irshrink-import-" not in str(caught.value)


def test_nothing_stays_behind(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    read_model(install(GOOD + "open('left', 'w').close()"))
    assert not list((tmp_path / "tmp").iterdir())


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    missing = Frontend(
        name="x", title="X", extra="keras", needs=("no-such-thing|nor-this", "onnx"), script="x.py"
    )
    with pytest.raises(ToolError) as caught:
        find_interpreter(missing)
    assert str(caught.value) == (
        "X needs a converter, and irshrink's Python has no no-such-thing. Install it with pip install "
        f"'irshrink[keras]', or set {VARIABLE} to the Python of an environment that has it."
    )


def test_interpreters_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "python"
    empty.write_text('#!/bin/sh\necho \'{"python": "3.9.0", "found": {"onnx": null}}\'\n', "utf-8")
    empty.chmod(0o755)
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(empty), sys.executable]))
    assert find_interpreter(FAKE).path == Path(sys.executable)
    with pytest.raises(ToolError, match="has no onnx"):
        find_interpreter(FAKE, str(empty))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ToolError, match=f"{VARIABLE}: '.*none' is not a program"):
        find_interpreter(FAKE)
    empty.write_text("#!/bin/sh\necho hello\n", "utf-8")
    with pytest.raises(ToolError, match="does not run as a Python interpreter"):
        interpreter.find_interpreter(FAKE, str(empty))


def test_options(tmp_path: Path, install: Install) -> None:
    assert parse_option("weights = a=b.caffemodel") == ("weights", "a=b.caffemodel")
    with pytest.raises(RecipeError, match="cannot be read"):
        parse_option("weights")
    model = install(GOOD)
    for options, message in (
        ({"second": "3"}, "Fake has no option 'second'. Did you mean 'seconds'?"),
        ({"seconds": "soon"}, "give a whole number of seconds above 0"),
    ):
        with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
            import_model(model, tmp_path, options)
    plain = tmp_path / "net.onnx"
    plain.touch()
    with pytest.raises(RecipeError, match="is ONNX, which takes no such options"):
        import_model(plain, tmp_path, {"seconds": "3"})


def test_paths_in_a_recipe_are_relative_to_it(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'target = "cortex-m4"\n[frontend]\nweights = "net.caffemodel"\nseconds = "9"\n', "utf-8"
    )
    found = load_recipe(recipe).frontend
    assert found == {"weights": str(tmp_path / "net.caffemodel"), "seconds": "9"}


def test_a_folder_is_named_by_the_content_of_its_files(tmp_path: Path) -> None:
    digests = set()
    for folder, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder / "variables").mkdir(parents=True)
        (tmp_path / folder / "saved_model.pb").touch()
        (tmp_path / folder / "variables" / "data").write_text(content, "utf-8")
        files = model_files(tmp_path / folder)
        assert [file.name for file in files] == ["saved_model.pb", "data"]
        digests.add(digest(tmp_path / folder, files))
    assert len(digests) == 2
    (tmp_path / "a" / "variables" / "more").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="more: is a link inside a model's folder"):
        model_files(tmp_path / "a")
