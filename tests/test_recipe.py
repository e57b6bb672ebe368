"""Recipes and locks: what they take, what they refuse, and that they round-trip."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.declared import parse_data_option
from irshrink.errors import RecipeError, TargetError, UserError
from irshrink.lock import Lock, differences, lock_text, make_lock, read_lock, require_model
from irshrink.recipe import Recipe, load_recipe, make_recipe, parse_drop
from irshrink.samples import AudioOptions, CsvOptions, ImageOptions
from irshrink.shapes import parse_shape
from irshrink.shorthands import SHORTHANDS, Quantize, chosen_passes

FULL = """
target = "nucleo-f446re"
flash = "256K"
ram = 65536
calibration = "samples.npz"
eval = "eval.npz"
keep_float = ["softmax*"]
io = "float"
max_drop = "0.5%"
verify = true
test_inputs = 8
seed = 7

[shapes]
input = [1, 3, 224, 224]

[images]
mean = 127
std = [58.4, 57.1, 57.4]
channels = "BGR"

[[steps]]
pass = "fold-batchnorm"
"""


def write(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_key(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL))
    assert recipe == Recipe(
        target="nucleo-f446re",
        flash=256 * 1024,
        ram=65536,
        calibration=str(tmp_path / "samples.npz"),
        eval=str(tmp_path / "eval.npz"),
        keep_float=("softmax*",),
        io="float",
        max_drop=0.005,
        verify=True,
        test_inputs=8,
        seed=7,
        shapes={"input": (1, 3, 224, 224)},
        images=ImageOptions(mean=(127.0,), std=(58.4, 57.1, 57.4), channels="BGR"),
        steps=({"pass": "fold-batchnorm"},),
    )
    target = recipe.resolved_target()
    assert (target.name, target.flash_bytes, target.ram_bytes) == ("cortex-m4", 262144, 65536)
    steps = recipe.passes()
    assert steps is not None
    assert [step.name for step in steps] == ["fold-batchnorm"]


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL), {"target": "cortex-m7", "seed": 1, "calibration": "mine.npz"})
    assert (recipe.target, recipe.seed, recipe.calibration) == ("cortex-m7", 1, "mine.npz")


RECIPES = st.builds(
    Recipe,
    target=st.sampled_from(["host", "cortex-m4", "my/board.toml"]),
    flash=st.none() | st.integers(1, 1 << 30),
    calibration=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
    images=st.none() | st.builds(ImageOptions, mean=st.just((1.5,)), std=st.just((2.0, 3.0, 4.0))),
    csv=st.none()
    | st.builds(CsvOptions, label=st.none() | st.just(("a", "b")), separator=st.none() | st.just(";")),
    audio=st.none()
    | st.builds(AudioOptions, rate=st.integers(1, 48000), seconds=st.none() | st.floats(0.1, 9)),
    shapes=st.dictionaries(st.text("ab:.", min_size=1), st.lists(st.integers(1, 999), max_size=4).map(tuple)),
    steps=st.none() | st.just(({"pass": "quantize-int8", "method": "entropy"},)) | st.just(()),
    keep_float=st.lists(st.text("abc*/"), max_size=3).map(tuple),
    max_drop=st.none() | st.floats(0, 1),
    io=st.sampled_from(["quantized", "float"]),
    verify=st.booleans(),
    seed=st.integers(0, 1 << 40),
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(recipe=RECIPES)
def test_toml_round_trips(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("recipe"), recipe.to_toml())
    overrides = {} if recipe.calibration is None else {"calibration": recipe.calibration}
    assert load_recipe(path, overrides) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "host", "calibratoin": "x"}, "unknown key 'calibratoin'. Did you mean 'calibration'?"),
        ({}, "no target"),
        ({"target": "host", "seed": "one"}, "seed: Expected `int`, got `str`."),
        ({"target": "host", "seed": -1}, "seed is -1"),
        ({"target": "host", "quantize": "int4"}, "quantize: 'int4' is not known. Did you mean 'int8'?"),
        ({"target": "host", "quantize": "int8"}, "needs calibration data"),
        ({"target": "host", "test_inputs": 0}, "at least one input"),
        ({"target": "host", "shapes": {"x": [1, 0]}}, "every dimension must be positive"),
        ({"target": "host", "steps": [{"method": "x"}]}, "names no pass"),
        ({"target": "host", "max_drop": "two"}, "is not a drop"),
        ({"target": "host", "max_drop": 3}, "more than 100 %"),
        ({"target": "host", "images": {"std": 1}}, "images needs mean"),
        ({"target": "host", "images": {"mean": 1, "std": 1, "size": 2}},
         "no option 'size'. Did you mean 'resize'?"),
    ],
)  # fmt: skip
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(values, "recipe.toml")
    assert message in str(caught.value)


def test_refused_passes_and_options() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'fold-batchnorm'"):
        Recipe(target="host", steps=({"pass": "fold-batchnrm"},)).passes()
    with pytest.raises(RecipeError, match=r"has no option 'methd'\. Did you mean 'method'"):
        Recipe(target="host", steps=({"pass": "quantize-int8", "methd": "x"},)).passes()


def test_refused_sizes_targets_and_files(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="'12Q' is not a size"):
        make_recipe({"target": "host", "flash": "12Q"})
    with pytest.raises(TargetError, match="Did you mean 'cortex-m4'"):
        Recipe(target="cortexm4").resolved_target()
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(write(tmp_path, "target = "))


def test_quantization_follows_the_data() -> None:
    assert Recipe(target="host").quantization == "none"
    assert Recipe(target="host", calibration="x.npz").quantization == "int8"
    assert Recipe(target="host", calibration="x.npz", quantize="none").quantization == "none"


@pytest.mark.parametrize(
    ("text", "value"), [("1%", 0.01), ("0.01", 0.01), (" 0.5 % ", 0.005), ("0", 0.0), ("1e-3", 0.001)]
)
def test_drops(text: str, value: float) -> None:
    assert parse_drop(text) == pytest.approx(value)


def test_shorthands() -> None:
    assert parse_shape("input:0=1,3,224,224") == ("input:0", (1, 3, 224, 224))
    assert parse_shape("a=b=1x2") == ("a=b", (1, 2))
    assert parse_data_option("images", "mean=123.7,116.3,103.5") == ("mean", [123.7, 116.3, 103.5])
    assert parse_data_option("images", "shorter-side=256") == ("shorter_side", 256)
    assert parse_data_option("csv", "separator=;") == ("separator", ";")
    assert parse_data_option("csv", "classes=cat, dog") == ("classes", ["cat", "dog"])
    assert parse_data_option("audio", "rate=16000") == ("rate", 16000)
    image = partial(parse_data_option, "images")
    for parse, text in ((parse_shape, "input"), (parse_shape, "input=1,N"), (image, "mean")):
        with pytest.raises(RecipeError, match="cannot be read"):
            parse(text)
    with pytest.raises(RecipeError, match="'grey' is not a number"):
        image("mean=grey")


def test_a_lock_holds_no_path_and_reads_back(tmp_path: Path) -> None:
    recipe = Recipe(target="cortex-m4", calibration="/home/me/secret.npz", eval="eval.npz", seed=3)
    lock = make_lock(recipe, "ab" * 32, {"calibration": "cd" * 32, "eval": None})
    text = lock_text(lock)
    assert "secret" not in text
    assert "eval" not in text.partition("[recipe]")[2]
    path = write(tmp_path, text, "recipe.lock")
    assert read_lock(path) == lock
    assert lock.recipe["quantize"] == "int8"
    assert {"irshrink", "apache-tvm", "ziglang", "onnxruntime", "numpy", "onnx"} <= set(lock.versions)
    again = load_recipe(path, {"calibration": "/home/me/secret.npz"})
    assert (again.target, again.seed, again.quantization) == ("cortex-m4", 3, "int8")


def test_a_lock_names_what_differs(tmp_path: Path) -> None:
    old = Lock(model_sha256="ab", data={"calibration": "1"}, versions={"numpy": "1.0"}, recipe={"seed": 0})
    new = Lock(model_sha256="ab", data={"calibration": "2"}, versions={"numpy": "2.0"}, recipe={"seed": 1})
    assert differences(old, old) == []
    assert differences(old, new) == [
        "the calibration data differs from what the lock was made with",
        "numpy is 2.0, the lock was made with 1.0",
        "'seed' was 0, now it is 1",
    ]
    with pytest.raises(RecipeError, match="belongs to a model with SHA-256 ab"):
        require_model(old, Path("recipe.lock"), "cd")
    assert read_lock(write(tmp_path, "target = 'host'\n")) is None
    with pytest.raises(RecipeError, match="a lock of format 2"):
        read_lock(write(tmp_path, "lock = 2\nmodel_sha256 = 'x'\n"))
    with pytest.raises(UserError, match="not a lock"):
        read_lock(write(tmp_path, "lock = 1\n"))


def test_a_target_of_the_user_s_own_is_locked_by_its_content(tmp_path: Path) -> None:
    board = write(
        tmp_path,
        'target = "cortex-m4"\ndescription = "mine"\nflash_bytes = 1\nram_bytes = 1\nsource = "me"\n',
        "b.toml",
    )
    lock = make_lock(Recipe(target=str(board)), "ab", {})
    assert lock.recipe["target"] == "b.toml"
    assert len(lock.data["target"]) == 64


class TestShorthands:
    def test_the_table_and_the_type_name_the_same(self) -> None:
        assert set(SHORTHANDS) == set(get_args(Quantize))

    @pytest.mark.parametrize("name", sorted(set(SHORTHANDS) - {"none"}))
    def test_each_makes_passes_that_keep_what_is_to_stay_float(self, name: Any) -> None:
        recipe = Recipe(target="host", calibration="x.npz", quantize=name, keep_float=("head*",))
        passes = chosen_passes(recipe)
        assert any("head*" in getattr(step, "keep_float", ()) for step in passes)

    @pytest.mark.parametrize("name", sorted(n for n, row in SHORTHANDS.items() if not row.calibrated))
    def test_some_need_no_data(self, name: Any) -> None:
        assert Recipe(target="host", quantize=name).quantization == name

    def test_pruning_comes_first(self) -> None:
        recipe = make_recipe({"target": "host", "calibration": "x.npz", "prune": "30%"})
        passes = chosen_passes(recipe)
        assert [one.name for one in passes] == ["prune-channels", "quantize-int8"]
        assert (getattr(passes[0], "ratio", None), getattr(passes[0], "steps", None)) == (0.3, 2)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"prune": "some"}, "'some' is not a share. Write 70%, or 0.7."),
            ({"prune": 1.5}, "a share of the multiplications is 30%, or 0.3"),
            ({"prune": 0.3}, "prune needs calibration data for the repair"),
            ({"prune": 0.3, "calibration": "x.npz", "steps": ()}, "steps replace what prune stands for"),
        ],
    )
    def test_pruning_that_cannot_be(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            chosen_passes(make_recipe({"target": "host", **values}))

    def test_low_rank_stands_behind_prune(self) -> None:
        values = {"target": "host", "calibration": "x.npz", "prune": "30%", "low_rank": "auto"}
        passes = chosen_passes(make_recipe(values))
        assert [one.name for one in passes] == ["prune-channels", "low-rank", "quantize-int8"]
        assert [getattr(passes[1], key, None) for key in ("by", "budget", "scope")] == ["error", 0.1, "model"]
        within = chosen_passes(make_recipe({**values, "low_rank": "5%"}))
        assert getattr(within[1], "budget", None) == 0.05

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"low_rank": "some"}, "'some' is not a share"),
            ({"low_rank": 2.0}, "a relative error is 10%, or 0.1; or write auto"),
            ({"low_rank": "auto"}, "low_rank needs calibration data to fit to"),
            (
                {"low_rank": "auto", "calibration": "x.npz", "steps": ()},
                "steps replace what low_rank stands for",
            ),
        ],
    )
    def test_low_rank_that_cannot_be(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            chosen_passes(make_recipe({"target": "host", **values}))

    def test_sparsity_stands_around_what_quantize_stands_for(self) -> None:
        recipe = make_recipe({"target": "host", "calibration": "x.npz", "sparsity": "70%"})
        passes = chosen_passes(recipe)
        assert [one.name for one in passes] == ["prune-weights", "quantize-int8", "store-sparse"]
        options = [getattr(passes[0], key, None) for key in ("sparsity", "method")]
        assert options == [0.7, "sparsegpt"]
        without = chosen_passes(Recipe(target="host", sparsity=0.5))
        assert [one.name for one in without] == ["prune-weights", "store-sparse"]
        assert getattr(without[0], "method", None) == "magnitude"

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"sparsity": "much"}, "'much' is not a share. Write 70%, or 0.7."),
            ({"sparsity": "100%"}, "a share of the weights is 70%, or 0.7"),
            ({"sparsity": 0.5, "steps": ()}, "steps replace what sparsity stands for"),
        ],
    )
    def test_sparsity_that_cannot_be(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            chosen_passes(make_recipe({"target": "host", **values}))

    def test_w4a8_is_int8_with_weights_in_4_bits(self) -> None:
        last = chosen_passes(Recipe(target="host", calibration="x.npz", quantize="w4a8"))[-1]
        assert (last.name, getattr(last, "weight_bits", None)) == ("quantize-int8", 4)
