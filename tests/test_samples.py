"""Samples: what is read, and every sentence with which bad data is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from irshrink.errors import ModelError, SamplesError
from irshrink.module import module_from_text
from irshrink.samples import ImageOptions, InputSpec, Samples, input_specs, load_samples

SPEC = [InputSpec("x", (1, 2, 3), np.dtype(np.float32))]
PHOTO = [InputSpec("x", (1, 3, 4, 6), np.dtype(np.float32))]
PLAIN = ImageOptions(mean=(0.0,), std=(1.0,))
VALUES = np.arange(30, dtype=np.float32).reshape(5, 2, 3)


def npz(folder: Path, compressed: bool = False, **arrays: Any) -> Path:
    path = folder / "samples.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def load(path: Path, specs: list[InputSpec] = SPEC, **options: Any) -> Samples:
    return load_samples(path, specs, role="calibration", **options)


def photos(folder: Path, names: list[str], size: tuple[int, int] = (6, 4)) -> Path:
    rng = np.random.default_rng(1)
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(file)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_gives_rows_in_batches(tmp_path: Path, compressed: bool) -> None:
    samples = load(npz(tmp_path, compressed, x=VALUES, y=np.arange(5)))
    assert len(samples) == 5
    batches = [batch["x"] for batch in samples.batches(2)]
    assert [len(b) for b in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), VALUES)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]
    assert [feed["x"].shape for feed in samples.head(2).feeds()] == [(1, 2, 3)] * 2


def test_selections(tmp_path: Path) -> None:
    samples = load(npz(tmp_path, x=VALUES, y=np.arange(5)))

    def labels(s: Samples) -> list[int]:
        assert s.labels is not None
        assert [int(b["x"][0, 0, 0]) // 6 for b in s.batches(1)] == s.labels.tolist()
        return [int(label) for label in s.labels]

    assert labels(samples.head(2)) == [0, 1]
    assert labels(samples.tail(3)) == [3, 4]
    assert labels(samples.spread(2)) == [0, 2]
    assert labels(samples.spread(9)) == [0, 1, 2, 3, 4]


def test_a_batch_axis_in_each_sample_is_accepted(tmp_path: Path) -> None:
    samples = load(npz(tmp_path, x=VALUES[:, None]))
    np.testing.assert_array_equal(next(samples.batches(5))["x"], VALUES)


def test_uint8_becomes_float(tmp_path: Path) -> None:
    batch = next(load(npz(tmp_path, x=VALUES.astype(np.uint8))).batches(5))["x"]
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, VALUES)


def test_digest_is_of_content_not_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = load(npz(tmp_path, x=VALUES))
    same = load(npz(tmp_path / "a", True, x=VALUES))
    assert one.digest() == same.digest()
    assert one.digest() != one.head(4).digest()
    assert one.digest() != load(npz(tmp_path, x=VALUES, y=np.arange(5))).digest()


NAN = VALUES.copy()
NAN[3, 0, 1] = np.nan
INF = VALUES.copy()
INF[4, 1, 1] = np.inf


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": VALUES}, "no array 'x'; arrays are named like the model's inputs. Known: z."),
        ({"xx": VALUES}, "no array 'x'; arrays are named like the model's inputs. Did you mean 'xx'?"),
        ({"y": np.arange(5)}, "no array 'x'; .* The file has no other array."),
        ({"x": VALUES, "labels": np.arange(5)}, "'labels' is neither an input of the model .* nor"),
        ({"x": VALUES[:, :1]}, r"'x' has the shape \[5, 1, 3\], expected \[n, 2, 3\]"),
        ({"x": np.float32(3)}, r"'x' has the shape \[\], expected \[n, 2, 3\]"),
        ({"x": VALUES.astype(np.int64)}, "'x' is int64, the model takes float32, .* Save it as float32."),
        ({"x": VALUES.astype(str)}, "array 'x' is of dtype <U32; numbers are needed."),
        ({"x": np.asfortranarray(VALUES)}, "array 'x' is stored column by column. Save numpy.ascontiguous"),
        ({"x": NAN}, "sample 3 has NaN in 'x'. Remove or mend that sample."),
        ({"x": INF}, "sample 4 has infinity in 'x'."),
        ({"x": VALUES[:0]}, "holds no samples. Give at least one calibration sample."),
        ({"x": np.zeros_like(VALUES)}, "every value of every sample is 0.0. Give real calibration samples."),
        ({"x": VALUES[[2, 2, 2]]}, "all 3 samples are the same. Give different calibration samples."),
        ({"x": VALUES, "y": np.arange(4)}, r"labels 'y' have the shape \[4\], expected \[5\]"),
        ({"x": VALUES, "y": np.eye(5, dtype=int)}, r"labels 'y' have the shape \[5, 5\], expected \[5\]"),
        ({"x": VALUES, "y": np.zeros(5, bool)}, "labels 'y' are bool; they must be integers"),
        ({"x": VALUES, "y": np.array([0, 1, 9, 1, 0])}, "sample 2 has the label 9; .* must be 0..3."),
        ({"x": VALUES, "y": np.array([0, -1, 0, 1, 0])}, "sample 1 has the label -1; .* must be 0..3."),
    ],
)
def test_npz_refusals(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        load(npz(tmp_path, **arrays), classes=4)


def test_different_counts_are_refused(tmp_path: Path) -> None:
    specs = [*SPEC, InputSpec("s", (1, 1), np.dtype(np.float32))]
    with pytest.raises(SamplesError, match=r"different numbers of samples: 'x' 5, 's' 4."):
        load(npz(tmp_path, x=VALUES, s=np.zeros((4, 1), np.float32)), specs)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"none.npz: no such file or folder. Give the calibration data"):
        load(tmp_path / "none.npz")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    with pytest.raises(
        SamplesError, match=r"not an .npz file, or a truncated one. Write it with numpy.savez"
    ):
        load(path)


def test_truncated_file(tmp_path: Path) -> None:
    path = npz(tmp_path, x=VALUES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SamplesError, match=r"not an .npz file, or a truncated one"):
        load(path)


def test_damaged_bytes(tmp_path: Path) -> None:
    path = npz(tmp_path, x=VALUES)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(SamplesError, match=r"the file is damaged or truncated. Copy or write it again."):
        load(path)


def test_photos_are_preprocessed_as_declared(tmp_path: Path) -> None:
    folder = photos(tmp_path, ["b.png", "a.png"])
    options = ImageOptions(mean=(1.0, 2.0, 3.0), std=(2.0,), scale=0.5, channels="BGR")
    first = next(load(folder, PHOTO, image=options).batches(1))["x"][0]
    pixels = np.asarray(Image.open(folder / "a.png"), np.float32)
    expected = (pixels[:, :, ::-1] * 0.5 - np.array([1, 2, 3])) / 2
    np.testing.assert_allclose(first, expected.transpose(2, 0, 1), rtol=1e-6)


def test_layouts_and_gray(tmp_path: Path) -> None:
    folder = photos(tmp_path, ["a.png", "b.png"])
    nhwc = [InputSpec("x", (1, 4, 6, 3), np.dtype(np.uint8))]
    pixels = next(load(folder, nhwc, image=PLAIN).batches(1))["x"][0]
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / "a.png")))
    gray = [InputSpec("x", (1, 1, 4, 6), np.dtype(np.float32))]
    options = ImageOptions(mean=(0.0,), std=(1.0,), channels="gray")
    assert next(load(folder, gray, image=options).batches(2))["x"].shape == (2, 1, 4, 6)


@pytest.mark.parametrize(
    "options", [{"resize": "stretch"}, {"resize": "crop"}, {"resize": "crop", "shorter_side": 8}]
)
def test_resizing(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = photos(tmp_path, ["a.png", "b.png"], size=(9, 31))
    image = ImageOptions(mean=(0.0,), std=(1.0,), **options)
    assert next(load(folder, PHOTO, image=image).batches(2))["x"].shape == (2, 3, 4, 6)


def labels_of(samples: Samples) -> list[int]:
    assert samples.labels is not None
    return [int(label) for label in samples.labels]


def test_labels_from_folders(tmp_path: Path) -> None:
    words = photos(tmp_path / "w", ["dog/1.png", "cat/2.png", "dog/3.png"])
    assert labels_of(load(words, PHOTO, image=PLAIN)) == [0, 1, 1]
    numbers = photos(tmp_path / "n", ["10/1.png", "9/2.png"])
    assert labels_of(load(numbers, PHOTO, image=PLAIN)) == [10, 9]


def test_labels_from_csv_and_stems(tmp_path: Path) -> None:
    folder = photos(tmp_path, ["7.png", "3.png"])
    (folder / "labels.csv").write_text("file,label\n7.png,5\n3.png,4\n")
    assert labels_of(load(folder, PHOTO, image=PLAIN)) == [4, 5]
    stem = ImageOptions(mean=(0.0,), std=(1.0,), labels="stem")
    assert labels_of(load(folder, PHOTO, image=stem)) == [3, 7]
    none = ImageOptions(mean=(0.0,), std=(1.0,), labels="none")
    assert load(folder, PHOTO, image=none).labels is None


def test_image_digest_is_of_content(tmp_path: Path) -> None:
    one = load(photos(tmp_path / "a", ["1.png", "2.png"]), PHOTO, image=PLAIN)
    same = load(photos(tmp_path / "b", ["3.png", "4.png"]), PHOTO, image=PLAIN)
    other = load(tmp_path / "b", PHOTO, image=ImageOptions(mean=(1.0,), std=(1.0,)))
    assert one.digest() == same.digest() != other.digest()


def image_options(**options: Any) -> ImageOptions:
    return ImageOptions(**{"mean": (0.0,), "std": (1.0,), **options})


@pytest.mark.parametrize(
    ("shape", "image", "message"),
    [
        ((1, 3, 4, 6), None, "how images become the input 'x' is not declared. Give at least mean and std"),
        ((1, 7), PLAIN, r"the input 'x' of shape \[1, 7\] is not an image"),
        ((1, 3, 4, 3), PLAIN, r"\[1, 3, 4, 3\] of 'x' does not tell its layout. Declare layout"),
        ((1, 3, 4, 6), image_options(layout="NHWC"), "is not NHWC with 1 or 3 channels"),
        ((1, 1, 4, 6), PLAIN, "channels = 'RGB', but the input has 1 channels. Declare channels = 'gray'"),
        (
            (1, 3, 4, 6),
            image_options(mean=(1.0, 2.0)),
            "mean has 2 numbers; give one, or one for each of the 3",
        ),
        ((1, 3, 4, 6), image_options(std=(0.0,)), "std is 0; values are divided by it"),
        ((1, 3, 4, 5), PLAIN, "a.png: is 6x4, the input is 5x4. Declare resize = 'stretch' or 'crop'"),
        ((1, 3, 4, 6), image_options(resize="crop", shorter_side=5), "shorter_side = 5 is smaller than"),
        ((1, 3, 4, 6), image_options(labels="csv"), "labels.csv: no such file. Write one line 'file,label'"),
        ((1, 3, 4, 6), image_options(labels="stem"), "labels = 'stem', but 'a.png' is not a number"),
        (
            (1, 3, 4, 6),
            image_options(labels="folders"),
            "'a.png' is not in a sub-folder that names its class",
        ),
    ],
)
def test_image_refusals(
    tmp_path: Path, shape: tuple[int, ...], image: ImageOptions | None, message: str
) -> None:
    folder = photos(tmp_path, ["a.png", "b.png"])
    with pytest.raises(SamplesError, match=message):
        load(folder, [InputSpec("x", shape, np.dtype(np.float32))], image=image)


def test_integer_input_wants_integers(tmp_path: Path) -> None:
    spec = [InputSpec("x", (1, 3, 4, 6), np.dtype(np.int8))]
    folder = photos(tmp_path, ["a.png", "b.png"])
    with pytest.raises(
        SamplesError, match=r"the input takes int8, but preprocessing gives fractions or values out"
    ):
        load(folder, spec, image=PLAIN)
    assert next(load(folder, spec, image=image_options(mean=(128.0,))).batches(1))["x"].dtype == np.int8


def test_broken_image_and_labels(tmp_path: Path) -> None:
    folder = photos(tmp_path, ["a.png", "b.png"])
    (folder / "labels.csv").write_text("a.png,0\n")
    with pytest.raises(SamplesError, match=r"labels.csv: no label for 'b.png' \(1 of 2 images\)"):
        load(folder, PHOTO, image=PLAIN)
    (folder / "labels.csv").write_text("a.png,0\nb.png,one\n")
    with pytest.raises(SamplesError, match=r"labels.csv: line 2 is not 'file,label' with an integer label"):
        load(folder, PHOTO, image=PLAIN)
    (folder / "labels.csv").unlink()
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:50])
    with pytest.raises(SamplesError, match=r"b.png: not a readable image"):
        load(folder, PHOTO, image=PLAIN)


def test_folder_without_images_and_two_inputs(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"holds no images"):
        load(tmp_path, PHOTO, image=PLAIN)
    with pytest.raises(SamplesError, match=r"feeds one input, the model has 2. Give an .npz"):
        load(tmp_path, [*PHOTO, *SPEC], image=PLAIN)


def test_specs_of_a_graph() -> None:
    module = module_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,3] x, int64[4] k) => (float[1,2,3] z) { z = Relu(x) }"""
    )
    specs = input_specs(module.graph)
    assert [(s.name, s.shape, s.sample_shape, s.dtype) for s in specs] == [
        ("x", (1, 2, 3), (2, 3), np.dtype(np.float32)),
        ("k", (4,), (4,), np.dtype(np.int64)),
    ]
    dynamic = module_from_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] z) { z = Relu(x) }'
    )
    with pytest.raises(ModelError, match=r"input 'x' has the dynamic shape .*Give a static one with --shape"):
        input_specs(dynamic.graph)
