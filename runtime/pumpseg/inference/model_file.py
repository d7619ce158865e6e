"""The model file: which one to take, and what it says about itself.

A model is one ONNX file whose metadata holds a JSON value under the key "pumpseg"; docs/model-file.md
describes it. It has everything the runtime needs to know, and nothing but ONNX is ever executed.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pumpseg.errors import ModelFileError, first_line, printable
from pumpseg.inference.cpu import int8_dot_product
from pumpseg.inference.letterbox import TOP_LEFT, Rule
from pumpseg.masks.paste import MASK_BORDERS, REPLICATE

METADATA_KEY = "pumpseg"
# Inputs with a default; the metadata name the default of the first.
SCORE_THRESHOLD = "score_threshold"
ROIS_MULTIPLE = "rois_multiple"
FORMAT = 1
SHIPPED_MODELS = ("fast", "accurate")
DEFAULT_MODEL = "fast"
DEFAULT_THRESHOLD = 0.5  # where the file recommends none
# More than any use needs, and few enough that no file takes the machine's memory by announcing them.
MAX_SIDE, MAX_MASK_SIDE, MAX_DETECTIONS = 8192, 1024, 100_000
MAX_CLASSES, MAX_NAME = 65_536, 200
# After a shipped model's name: that precision on every machine. Only "-int8" is also part of the file's name.
FLOAT32_SUFFIX, INT8_SUFFIX = "-fp32", "-int8"

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines
_CPU_PROVIDERS = ("cpu", "openvino")
MODELS_FOLDER = Path(__file__).parents[1] / "models"


@dataclass(frozen=True, repr=False)
class ModelInfo:
    """What a model file says about itself.

    input_size: (height, width) in pixels. fill: RGB around the letterboxed frame; letterbox: where the frame goes.
    score_threshold: the lowest, and the default, of the graph's input of that name. recommended_threshold: for
    detections to use. nms_threshold: part of the graph. mask_border: how masks are pasted, see `paste_crop`.
    training and metrics: free-form, as the exporter wrote them. precision: what the network computes in, "float32" or
    "int8"; quantisation: how it was made int8, empty otherwise. choice: why this file was taken of a shipped model
    that has several, empty where it was named.

    >>> from pumpseg import Segmenter
    >>> Segmenter("fast-fp32").info
    ModelInfo(edge, float32, 384x384, classes: pumpkin)
    """

    profile: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    fill: tuple[int, int, int]
    score_threshold: float
    nms_threshold: float
    max_detections: int
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    source_hash: str = ""
    letterbox: Rule = TOP_LEFT
    mask_border: str = REPLICATE
    quantisation: Mapping[str, Any] = field(default_factory=dict)
    choice: str = ""
    recommended_threshold: float = DEFAULT_THRESHOLD

    @property
    def precision(self) -> str:
        return str(self.quantisation.get("type", "float32"))

    def __repr__(self) -> str:
        height, width = self.input_size
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        return f"ModelInfo({self.profile}, {self.precision}, {width}x{height}, classes: {names})"


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph, as onnxruntime's NodeArg describes it. A side of any length is a name or None."""

    name: str
    type: str
    shape: Sequence[int | str | None]


def find_model(model: str | Path | None = None) -> Path:
    """The file behind what a user names: None for the default, a shipped model's name, or a path.

    It does not depend on the machine: a shipped model without a precision, and "fast-fp32", is its float32 file,
    "fast-int8" its int8 file. Raises ModelFileError if there is no such file.
    """
    name = DEFAULT_MODEL if model is None else str(model)
    if name in (model + suffix for model in SHIPPED_MODELS for suffix in ("", FLOAT32_SUFFIX, INT8_SUFFIX)):
        path = MODELS_FOLDER / f"{name.removesuffix(FLOAT32_SUFFIX)}.onnx"
        if not path.is_file():
            raise ModelFileError(f"the model {name!r} is missing from this installation: no file {path}")
        return path
    path = Path(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise ModelFileError(f"{str(path)[:200]} cannot be read: {error.strerror}") from None
    if is_folder:
        raise ModelFileError(f"{path} is a folder, not an ONNX file")
    if not is_file:
        known = f"{', '.join(SHIPPED_MODELS)}, also with {FLOAT32_SUFFIX} or {INT8_SUFFIX}"
        raise ModelFileError(f"no model {model}: neither a file nor a shipped model ({known})")
    return path


def choose_model(model: str | Path | None, provider: str) -> tuple[Path, str]:
    """The file to run on a provider, and why this one of a shipped model's two: "" for a file that was named.

    Takes the int8 file of a shipped model where the provider computes on a CPU that has the instructions for it.

    Raises ModelFileError as `find_model` does.
    """
    name = DEFAULT_MODEL if model is None else str(model)
    if name not in SHIPPED_MODELS:
        return find_model(model), ""
    int8 = MODELS_FOLDER / f"{name}{INT8_SUFFIX}.onnx"
    instructions = int8_dot_product()
    if provider not in _CPU_PROVIDERS:
        return find_model(name), f"float32: {provider} does not compute on the CPU"
    if not int8.is_file():
        return find_model(name), f"float32: there is no int8 file of {name} in this installation"
    if not instructions:
        return find_model(name), "float32: this processor is not known to have an int8 dot product (VNNI or ARM's)"
    return int8, f"int8: this processor has {instructions}"


def parse_metadata(metadata: Mapping[str, str], path: Path) -> ModelInfo:
    """Model info from the metadata map of an ONNX file; path: for the messages.

    Raises ModelFileError if the key is missing, its value damaged, or its format too new for this package.
    """
    if METADATA_KEY not in metadata:
        raise ModelFileError(f'{path} was not made by pumpseg-export: its metadata has no "{METADATA_KEY}" key')
    try:
        values = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelFileError(f"{path}: its pumpseg metadata is not JSON ({why})") from None
    if not isinstance(values, dict):
        raise ModelFileError(f"{path}: its pumpseg metadata is not a JSON object")

    file_format = values.get("format")
    if not isinstance(file_format, int) or isinstance(file_format, bool) or file_format < 1:
        raise ModelFileError(f"{path}: its pumpseg metadata names no format (seen: {file_format!r:.50})")
    if file_format > FORMAT:
        raise ModelFileError(
            f"{path} has format {file_format!r:.50}, this pumpseg reads up to {FORMAT}: upgrade pumpseg to use it"
        )
    try:
        return _model_info(values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise ModelFileError(f"{path}: damaged pumpseg metadata: {what}") from None


def _model_info(values: Mapping[str, Any]) -> ModelInfo:
    letterbox = values["letterbox"]
    rule = Rule(
        placement=letterbox["placement"],
        min_side=int(_number(letterbox, "min_side", MAX_SIDE, default=0)),
        min_scale=_number(letterbox, "min_scale", MAX_SIDE, default=0.0),
    )
    fill = tuple(int(value) for value in letterbox["fill"])
    if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
        raise ValueError(f"letterbox fill must be three values of 0..255, got {fill}")
    input_size = tuple(int(side) for side in values["input_size"])
    if len(input_size) != 2 or not 1 <= min(input_size) <= max(input_size) <= MAX_SIDE:
        raise ValueError(f"input_size must be [height, width] of at most {MAX_SIDE}, got {values['input_size']}")
    mask_border = values.get("mask_border", REPLICATE)
    if mask_border not in MASK_BORDERS:
        raise ValueError(f"unknown mask_border {mask_border!r}, 'replicate' and 'fade' are known")
    class_names = values["classes"]
    if not isinstance(class_names, list) or not 1 <= len(class_names) <= MAX_CLASSES:
        raise ValueError(f"classes must be a list of 1 to {MAX_CLASSES} names, got {class_names!r:.100}")
    quantisation = dict(values.get("quantisation") or {})
    if "type" in quantisation:
        _name(quantisation["type"], "quantisation type")
    return ModelInfo(
        profile=_name(values["profile"], "profile"),
        class_names=tuple(_name(name, "each of classes") for name in class_names),
        input_size=(input_size[0], input_size[1]),
        fill=(fill[0], fill[1], fill[2]),
        score_threshold=_number(values, "score_threshold"),
        nms_threshold=_number(values, "nms_threshold"),
        max_detections=int(_number(values, "max_detections", MAX_DETECTIONS)),
        training=dict(values.get("training") or {}),
        metrics=dict(values.get("metrics") or {}),
        licence=str(values.get("licence", "")),
        source_hash=str(values.get("source_hash", "")),
        letterbox=rule,
        mask_border=mask_border,
        quantisation=quantisation,
        recommended_threshold=_number(values, "recommended_threshold", default=DEFAULT_THRESHOLD),
    )


def _number(values: Mapping[str, Any], key: str, maximum: float = 1, *, default: float | None = None) -> float:
    """The number from 0 to `maximum` under a key; JSON may also have NaN and Infinity."""
    value = values[key] if default is None else values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= maximum:
        raise ValueError(f"{key} must be a number from 0 to {maximum}, got {value!r:.50}")
    return float(value)


def _name(value: object, what: str) -> str:
    """Text that can be printed and drawn: OpenCV ends the process at a lone surrogate."""
    wrong = not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME
    if wrong or any(unicodedata.category(letter) in _UNPRINTABLE for letter in str(value)):
        raise ValueError(f"{what} must be a text of 1 to {MAX_NAME} letters, got {value!a:.50}")
    return str(value)


def check_tensors(inputs: Sequence[Tensor], outputs: Sequence[Tensor], info: ModelInfo, path: Path) -> None:
    """Raise ModelFileError unless the graph's inputs and outputs are those of the model file contract."""
    wanted_inputs = (Tensor("image", "tensor(uint8)", (1, *info.input_size, 3)),)
    wanted_outputs = (
        Tensor("boxes", "tensor(float)", (None, 4)),
        Tensor("scores", "tensor(float)", (None,)),
        Tensor("class_ids", "tensor(int64)", (None,)),
        Tensor("masks", "tensor(float)", (None, None, None)),
    )
    for kind, tensors, wanted in (("input", inputs, wanted_inputs), ("output", outputs, wanted_outputs)):
        seen, names = {tensor.name: tensor for tensor in tensors}, [tensor.name for tensor in wanted]
        missing, extra = set(names) - seen.keys(), seen.keys() - set(names)
        if missing or (kind == "input" and extra):
            shown = printable(", ".join(sorted(seen)) or "none")
            raise ModelFileError(f"{path}: its {kind}s are {shown}, not {', '.join(names)}")
        for rule in wanted:
            tensor = seen[rule.name]
            if tensor.type != rule.type or not _fits(tensor.shape, rule.shape):
                shown = printable(f"{tensor.type} {list(tensor.shape)}")
                sides = ["any" if side is None else side for side in rule.shape]
                raise ModelFileError(f"{path}: its {kind} {rule.name} is {shown}, not {rule.type} {sides}")
    cells = tuple(next(tensor.shape for tensor in outputs if tensor.name == "masks"))[1:]
    if any(isinstance(side, int) and not 1 <= side <= MAX_MASK_SIDE for side in cells) or (
        all(isinstance(side, int) for side in cells) and len(set(cells)) > 1
    ):
        raise ModelFileError(f"{path}: its masks have {'x'.join(map(str, cells))} cells, not M x M")


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | str | None]) -> bool:
    # Sides left open are strings or None; a shape left open altogether is empty.
    if not shape:
        return True
    return len(shape) == len(wanted) and all(
        side == rule or rule is None or not isinstance(side, int) for side, rule in zip(shape, wanted, strict=True)
    )
