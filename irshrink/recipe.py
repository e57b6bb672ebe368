"""What the user asks for, in one place: a recipe file, the command line's shorthands, or both.

A recipe is TOML. Every key has a shorthand on the command line, which wins over the file::

    target = "cortex-m4"            # a target, a board, or the path of a TOML file of either kind
    calibration = "samples.npz"     # paths are relative to the recipe
    keep_float = ["softmax*"]

    [images]                        # preprocessing, when the data is a folder of images (docs/data.md)
    mean = 127
    std = 128

    [[steps]]                       # instead of what `quantize` stands for
    pass = "quantize-int8"
    method = "entropy"
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from irshrink.declared import TABLES, checked_table
from irshrink.errors import RecipeError, nearest
from irshrink.frontends.options import beside
from irshrink.metrics.table import is_share, require_metric
from irshrink.names import DEFAULT_PREFIX, require_prefix
from irshrink.samples import AudioOptions, CsvOptions, ImageOptions, Reading
from irshrink.shapes import require_variants
from irshrink.shorthands import SHORTHANDS, Objective, Quantize
from irshrink.target import MOST_THREADS, Target, load_target, parse_size, with_memory, with_threads
from irshrink.validation import complaint

if TYPE_CHECKING:
    from irshrink.pipeline import Pass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PATHS = ("calibration", "eval", "schedules")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Everything that decides what comes out, besides the model and the data themselves.

    Attributes:
        target: name of a target or board, or the path of a TOML file.
        flash, ram: memory limits in bytes, instead of the board's.
        memory: ``small`` makes the arena as small as it gets at the price of some instructions, ``fast`` only
            as small as a RAM limit asks for (docs/memory.md); not given means what the target says, ``fast``.
        threads: how many threads an inference can use at most; the build has none without (docs/threads.md).
        calibration, eval: ``.npz`` or CSV files, or folders of images or recordings.
        images: preprocessing of folders of images.
        csv: what the columns of CSV files are.
        audio: preprocessing of folders of recordings.
        frontend: options of the format that the model comes in (docs/frontends.md), by key.
        shapes: static shape of inputs whose shape is dynamic, the batch included.
        variants: several sets of ``shapes`` for one package, each with functions of its own; an input of
            ``shapes`` has that shape in all of them. The first variant is the one that figures without a
            name are about.
        quantize: how weights and activations are stored, a name of :data:`irshrink.shorthands.SHORTHANDS`;
            not given means ``int8`` with calibration data, ``none`` without.
        steps: passes between cleanup and code generation, each ``{"pass": name, option: value...}``, in
            place of what ``quantize`` stands for.
        keep_float: names of nodes that stay float32; ``*`` and ``?`` as in file names.
        io: whether the C function takes and gives int8 or float32, where the model is quantized.
        requantize: whose arithmetic int8 operators use: ``float32`` is irshrink's, ``tflm`` gives the bytes
            of TensorFlow Lite Micro (docs/integer-semantics.md).
        schedules: a database of `irshrink tune`, asked before the one that ships for the target.
        prefix: what the C package's files, functions and macros begin with; builds with different prefixes
            link into one program.
        metric: what accuracy is: a name of :mod:`irshrink.metrics.table`, or ``file.py:function``; not given
            means what fits the labels and the model (:func:`irshrink.evaluate.compare`).
        max_drop: largest loss of accuracy that is accepted, in the metric's unit: of top-1 and other shares
            0.01 is one percentage point.
        relative_drop: ``max_drop`` is a fraction of the original's accuracy instead.
        max_size: most bytes that the compressed ONNX model may take.
        instructions: most instructions that an inference may execute on the target.
        latency: seconds that an inference may take on this machine, where that is the target; measured on
            the finished build, and no part of its lock.
        objective: what a plan is to be within the budgets: ``accurate``, ``smallest`` (in flash), ``fastest``
            or ``least-ram``; it decides what the recipe leaves open, by trying (docs/planning.md). Not given
            means that a plan is searched only where int8 keeps a budget not, and the recipe says nothing
            about how to.
        knobs: names of the decisions that a search may make, all without; `irshrink plan` names them.
        evaluations: how many plans are tried; not given means what suits the size of the model.
        fit: passes fit to at most so many of the calibration samples, at even distances; those that are left
            judge plans. Not given means all, and where a plan is searched two thirds, at most 256 to
            2,048 by the size of the model.
        prune: share of the multiplications that go, with the channels that make least use of them, before
            anything else; needs calibration data for the repair (docs/pruning.md).
        low_rank: relative error of the model's outputs up to which layers become products of smaller ones, or
            ``auto``, behind what ``prune`` stands for; needs calibration data (docs/low-rank.md).
        sparsity: share of the weights that become 0, in front of what ``quantize`` stands for, and are left
            out of the file, and of flash where kernels can do without them (docs/pruning.md).
        verify: check every pass that must not change the outputs on the samples.
        test_inputs: samples in the test vector, which are run on the target or its emulator.
        seed: of everything random.

    Raises:
        RecipeError: values that contradict each other or make no sense.
    """

    target: str
    flash: int | None = None
    ram: int | None = None
    memory: Literal["fast", "small"] | None = None
    threads: int | None = None
    calibration: str | None = None
    eval: str | None = None
    images: ImageOptions | None = None
    csv: CsvOptions | None = None
    audio: AudioOptions | None = None
    frontend: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    variants: tuple[dict[str, tuple[int, ...]], ...] = ()
    quantize: Quantize | None = None
    steps: tuple[dict[str, Any], ...] | None = None
    keep_float: tuple[str, ...] = ()
    io: Literal["quantized", "float"] = "quantized"
    requantize: Literal["float32", "tflm"] = "float32"
    schedules: str | None = None
    prefix: str = DEFAULT_PREFIX
    metric: str | None = None
    max_drop: float | None = None
    relative_drop: bool = False
    max_size: int | None = None
    instructions: int | None = None
    latency: float | None = None
    objective: Objective | None = None
    knobs: tuple[str, ...] = ()
    evaluations: int | None = None
    fit: int | None = None
    prune: float | None = None
    low_rank: float | Literal["auto"] | None = None
    sparsity: float | None = None
    verify: bool = False
    test_inputs: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if SHORTHANDS[self.quantization].calibrated and self.calibration is None:
            raise RecipeError(
                f"quantize = '{self.quantize}' needs calibration data. Give --calibration samples.npz."
            )
        if self.test_inputs < 1:
            raise RecipeError(f"test_inputs is {self.test_inputs}; at least one input must be tested.")
        require_prefix(self.prefix)
        if self.metric is not None:
            require_metric(self.metric)
        for key in ("flash", "ram", "max_size", "instructions", "evaluations", "fit"):
            if (limit := getattr(self, key)) is not None and limit < 1:
                unit = " of bytes" if key in ("flash", "ram", "max_size") else ""
                raise RecipeError(f"{key} is {limit}; it must be a positive number{unit}.")
        if self.latency is not None and not 0 < self.latency < inf:
            raise RecipeError(
                f"latency is {self.latency}; it must be a positive time: 20ms, or 0.02 seconds."
            )
        if (self.objective is not None or self.knobs) and self.steps is not None:
            raise RecipeError("steps decide everything that an objective could. Leave one of them out.")
        if self.objective not in (None, "accurate") and self.max_drop is None:
            raise RecipeError(
                f"how much accuracy may a plan lose to be {self.objective}? Give --max-drop 1%."
            )
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise RecipeError(f"threads is {self.threads}; it must be 1 to {MOST_THREADS}.")
        self._require_shares()
        if self.seed < 0:
            raise RecipeError(f"seed is {self.seed}; it must not be negative.")
        require_variants(self.shapes, self.variants)
        for step in self.steps or ():
            if not isinstance(step.get("pass"), str):
                raise RecipeError(f'step {step} names no pass. Write pass = "name"; see `irshrink passes`.')

    def _require_shares(self) -> None:
        if self.prune is not None and not 0 < self.prune < 1:
            raise RecipeError(f"prune is {self.prune}; a share of the multiplications is 30%, or 0.3.")
        if self.prune is not None and self.calibration is None:
            raise RecipeError("prune needs calibration data for the repair. Give --calibration samples.npz.")
        if isinstance(self.low_rank, float) and not 0 < self.low_rank < 1:
            raise RecipeError(f"low_rank is {self.low_rank}; a relative error is 10%, or 0.1; or write auto.")
        if self.low_rank is not None and self.calibration is None:
            raise RecipeError("low_rank needs calibration data to fit to. Give --calibration samples.npz.")
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise RecipeError(f"sparsity is {self.sparsity}; a share of the weights is 70%, or 0.7.")

    @classmethod
    def checked(cls, recipe: object) -> Recipe:
        """A recipe made in Python with the types that one from a file would have.

        Raises:
            RecipeError: it is none, or a value is of the wrong type.
        """
        if not isinstance(recipe, Recipe):
            raise RecipeError(f"the recipe is a {type(recipe).__name__}. Make it by irshrink.Recipe(...).")
        try:
            return msgspec.convert(msgspec.to_builtins(recipe, enc_hook=str), cls)
        except msgspec.ValidationError as e:
            raise RecipeError(complaint(e, cls)) from e

    @property
    def quantization(self) -> Quantize:
        """What ``quantize`` says or, not given, stands for (explicit ``steps`` decide for themselves)."""
        if self.quantize is None:
            return "none" if self.calibration is None else "int8"
        return self.quantize

    @property
    def reading(self) -> Reading:
        """How the data is to be read, for :func:`irshrink.samples.load_samples`."""
        return Reading(image=self.images, csv=self.csv, audio=self.audio)

    def resolved_target(self) -> Target:
        """The target with this recipe's memory limits.

        Raises:
            TargetError: no such target or board, or one without threads.
        """
        target = with_memory(load_target(self.target), self.flash, self.ram, self.memory)
        return with_threads(target, self.threads)

    def passes(self) -> list[Pass] | None:
        """The explicit steps as passes with checked options; None when the recipe has none.

        Raises:
            RecipeError: unknown pass or option, or a value of the wrong type.
        """
        from irshrink.registry import make_pass

        if self.steps is None:
            return None
        return [make_pass(str(s["pass"]), {k: v for k, v in s.items() if k != "pass"}) for s in self.steps]

    def to_dict(self, *, defaults: bool = False) -> dict[str, Any]:
        """Plain data for :func:`make_recipe`; what is default is left out unless asked for."""
        data = msgspec.structs.asdict(self) if defaults else self
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(data))
        for key in TABLES:
            if plain.get(key):
                plain[key] = {k: v for k, v in plain[key].items() if v is not None}
        return {key: value for key, value in plain.items() if value is not None}

    def to_toml(self) -> str:
        """The recipe as TOML; reading it gives an equal recipe."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, or the recipe inside a ``recipe.lock``.

    Args:
        path: the TOML file; paths inside it are relative to it.
        overrides: keys that replace the file's, such as the command line's.

    Raises:
        RecipeError: the file is missing or not TOML, or :func:`make_recipe` refuses it.
    """
    values = read_toml(path)
    if "lock" in values:
        values = values.get("recipe", {})
    for key in _PATHS:
        if isinstance(values.get(key), str):
            values[key] = str(path.parent / values[key])
    if isinstance(values.get("metric"), str) and ":" in values["metric"]:
        values["metric"] = str(path.parent / values["metric"])
    if isinstance(values.get("frontend"), dict):
        values["frontend"] = beside(values["frontend"], path.parent)
    return make_recipe({**values, **(overrides or {})}, str(path))


def make_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain data, with sizes as ``"256K"`` and drops as ``"1%"`` allowed.

    Args:
        where: what messages call it.

    Raises:
        RecipeError: an unknown key (names the nearest), a value of the wrong type, a contradiction.
        TargetError: ``flash``, ``ram`` or ``max_size`` is not a size.
    """
    known = Recipe.__struct_fields__
    for key in values:
        if key not in known:
            raise RecipeError(f"{where}: unknown key '{key}'.{nearest(key, known)}")
    if "target" not in values:
        raise RecipeError(f"{where}: no target. Give --target; `irshrink targets` lists them.")
    plain = dict(values)
    for key, value in plain.items():
        if isinstance(value, str) and key in _AMOUNTS and (key, value) != ("low_rank", "auto"):
            plain[key] = _AMOUNTS[key](value, key)
    if plain.get("max_drop") is not None:
        text = str(plain["max_drop"]).strip()
        if text.endswith("relative"):
            plain["relative_drop"], text = True, text.removesuffix("relative")
        counted = plain.get("metric") is None or is_share(str(plain["metric"]))
        plain["max_drop"] = parse_drop(text, counted or bool(plain.get("relative_drop")))
    for key in TABLES:
        if isinstance(plain.get(key), Mapping):
            plain[key] = checked_table(key, plain[key], where)
    try:
        return msgspec.convert(plain, Recipe)
    except msgspec.ValidationError as e:
        raise RecipeError(f"{where}: {complaint(e, Recipe)}") from e


def parse_share(text: str, key: str) -> float:
    """``"70%"`` and ``"0.7"`` are the same.

    Raises:
        RecipeError: not a number.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    if match is None:
        raise RecipeError(f"{key} '{text}' is not a share. Write 70%, or 0.7.")
    return float(match[1]) / 100 if match[2] else float(match[1])


def parse_count(text: str, key: str) -> int:
    """``"3M"`` is three million.

    Raises:
        RecipeError: not a number.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*)\s*([kKmMgG]?)\s*", text)
    if match is None:
        raise RecipeError(f"{key} '{text}' is not a number. Write 3000000, or 3M.")
    scale: int = 1000 ** " kmg".index(match[2].lower() or " ")
    return round(float(match[1]) * scale)


def parse_time(text: str, key: str) -> float:
    """``"20ms"``, ``"500us"``, ``"1.5s"`` and ``"0.02"`` in seconds.

    Raises:
        RecipeError: no time.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(us|ms|s|)\s*", text)
    if match is None:
        raise RecipeError(f"{key} '{text}' is not a time. Write 20ms, 500us, or 0.02 for seconds.")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3}.get(match[2], 1.0)


def parse_drop(text: str, share: bool = True) -> float:
    """``"1%"`` and ``"0.01"`` are the same: one percentage point of accuracy.

    Args:
        share: whether it is of a fraction, and so at most 100 %.

    Raises:
        RecipeError: not a number, or not between 0 and 100 %.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)(e-?\d+)?\s*(%?)\s*", text, re.IGNORECASE)
    if match is None:
        raise RecipeError(
            f"max_drop '{text}' is not a drop. Write points of accuracy: 1%, or 0.01; "
            "'1% relative' is a hundredth of what there is."
        )
    value = float(match[1] + (match[2] or ""))
    value = value / 100 if match[3] else value
    if value > 1 and share:
        raise RecipeError(f"max_drop '{text}' is more than 100 %. One percentage point is 1% or 0.01.")
    return value


#: How amounts that a person wrote are read, by key.
_AMOUNTS: Mapping[str, Callable[[str, str], float]] = {
    **dict.fromkeys(("flash", "ram", "max_size"), parse_size),
    **dict.fromkeys(("prune", "low_rank", "sparsity"), parse_share),
    "instructions": parse_count,
    "latency": parse_time,
}


def read_toml(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        return values
    except OSError as e:
        raise RecipeError(f"{path}: cannot be read: {e.strerror or e}.") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path}: not valid TOML: {e}.") from e
