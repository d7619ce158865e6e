"""A training run on disk: its settings, its checkpoints, and the way back to a model."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from pumpseg.atomic_file import write_text
from pumpseg.errors import PumpsegError, first_line
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.hdf5_file import check_hdf5_file
from pumpseg_train.model.hdf5_writer import write_hdf5_file
from pumpseg_train.model.network import MaskRCNN, build_mask_rcnn
from pumpseg_train.model.profile import EDGE, PROFILES, Profile
from pumpseg_train.samples.config import AugmentationConfig

SETTINGS = "settings.toml"
BEST_WEIGHTS = "best.weights.h5"
BEST_METRICS = "best.json"
FINISHED = "finished"
STATE = "state"
FOLDERS = ("data", "init_from", "average_runs", "auxiliary", "paste_from", "distractors", "backgrounds")
"""The settings that name folders of the machine that trains."""


class RunError(PumpsegError, ValueError):
    """A run folder that is missing, unfinished or does not match what is asked, or settings that are not possible."""


@dataclass(frozen=True)
class Settings:
    """What defines a run; two runs with equal settings and data do the same."""

    data: str
    auxiliary: tuple[str, ...] = ()
    paste_from: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    init_from: str = "general"  # or "imagenet", a shipped model, an exported file, an earlier run: initial_weights.py
    average_runs: tuple[str, ...] = ()  # runs whose weights were averaged; nothing else was trained then
    profile: str = "edge"
    input_size: PositiveInt = 384  # side of the square training pictures, and the default of export
    epochs: PositiveInt = 24
    steps: PositiveInt = 125  # batches an epoch
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1  # batches whose gradients are averaged for one update of the weights
    learning_rate: PositiveFloat = 1e-3
    backbone_rate: PositiveFloat = 0.25  # of the learning rate
    weight_decay: float = 5e-3
    warmup_steps: NonNegativeInt = 60  # batches
    clip_norm: PositiveFloat = 10.0
    averaged_share: PositiveFloat = 0.1  # of the run: how far back the moving average of the weights reaches
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patience: NonNegativeInt = 0  # epochs without a better mask AP after which the run ends; 0: never
    pictures_every: NonNegativeInt = 4  # epochs between sheets of predictions on validation photos; 0: none
    seed: NonNegativeInt = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_profile(self) -> Profile:
        """Raises: RunError for an unknown profile or a size that it cannot have."""
        if self.profile not in PROFILES:
            raise RunError(f"unknown profile {self.profile!r}: choose from {', '.join(PROFILES)}")
        if self.profile != EDGE.name:
            raise RunError(f"{self.profile} is trained by its own schedule: docs/matterport.md shows how")
        try:
            return dataclasses.replace(PROFILES[self.profile], input_size=(self.input_size,) * 2)
        except ValueError as error:
            raise RunError(str(error)) from None


def make_settings(values: Mapping[str, Any], source: str = "settings") -> Settings:
    """Settings from plain values, as TOML has them; a nested `augmentation` holds those of `AugmentationConfig`.

    Raises:
        RunError: a name is unknown, or a value of the wrong kind or out of range; `source` names their file.
    """
    try:
        return _SETTINGS.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            raise RunError(f"{source}: there is no setting {place!r}") from None
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.60}"
        raise RunError(f"{source}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}{given}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Raises: RunError when the file is missing or not valid TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of UTF-8, and of numbers with thousands of digits
        raise RunError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise RunError(f"{path} is not valid TOML: it is nested too deeply") from None


def write_settings(run: Path, settings: Settings, classes: tuple[str, ...]) -> None:
    """Creates the run folder; one that exists must have been made with the same settings, but may get more epochs.

    Raises:
        RunError: it was made with others, or cannot be made, or cannot get more epochs.
        SinkError: its settings cannot be written.
    """
    if (run / SETTINGS).is_file():
        before = read_settings(run)
        old, new = dataclasses.asdict(before), dataclasses.asdict(settings)
        changed = [name for name in new if _comparable(name, new[name]) != _comparable(name, old[name])]
        more = changed == ["epochs"] and settings.epochs > before.epochs
        if (changed and not more) or read_classes(run) != classes:
            raise RunError(
                f"{run} was started with another {', '.join(changed) or 'set of classes'}: "
                "give the same options to resume it, or another --out; only --epochs may grow"
            )
        if not more:
            return
        if (run / FINISHED).exists():
            if not (run / STATE).is_dir():
                raise RunError(f"{run} was finished without its state: --init-from {run} starts from its weights")
            (run / FINISHED).unlink()
    try:
        (run / STATE).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {run}: {error.strerror}") from None
    write_text(run / SETTINGS, tomli_w.dumps({"classes": list(classes), **dataclasses.asdict(settings)}))


def read_best(run: Path) -> dict[str, Any]:
    """The epoch with the best weights of a run, from 1, and its metrics.

    Raises:
        RunError: the folder has no such file, or a damaged one.
    """
    try:
        best: dict[str, Any] = json.loads((run / BEST_METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{run / BEST_METRICS} cannot be read: {first_line(error)}") from None
    return best


def load_run(run: Path) -> MaskRCNN:
    """The best model of a run.

    Raises:
        RunError: the folder is not a run, or has no checkpoint yet.
    """
    classes, profile = read_classes(run), read_settings(run).to_profile()
    if not (run / BEST_WEIGHTS).is_file():
        raise RunError(f"{run} has no checkpoint yet: {BEST_WEIGHTS} is written after the first epoch")
    model = build_mask_rcnn(profile, classes)
    load_weights(model, run / BEST_WEIGHTS)
    return model


def read_settings(run: Path) -> Settings:
    """The settings that a run was started with.

    Raises:
        RunError: the folder is not a run, or of another version of pumpseg.
    """
    values = _read(run)
    values.pop("classes", None)
    return make_settings(values, f"{run / SETTINGS}")


def read_classes(run: Path) -> tuple[str, ...]:
    """The class names that a run learns, in the order of their ids.

    Raises:
        RunError: the folder is not a run, or its settings are damaged.
    """
    classes = _read(run).get("classes")
    if not isinstance(classes, list) or not classes:
        raise RunError(f"{run / SETTINGS} names no classes")
    return tuple(str(name) for name in classes)


def save_weights(model: MaskRCNN, path: Path) -> None:
    """Writes all weights to one HDF5 file, under another name until complete. Raises SinkError."""
    detector = Detector(model)
    write_hdf5_file(path, detector.save_weights, detector.variables)


def load_weights(model: MaskRCNN, path: Path) -> None:
    """Raises: RunError for a file that is damaged or of another architecture."""
    try:
        check_hdf5_file(path)
        Detector(model).load_weights(path)
    except Exception as error:  # Keras and HDF5 raise nearly anything for a damaged file
        raise RunError(f"{path} cannot be loaded: {first_line(error)}") from None


def _read(run: Path) -> dict[str, Any]:
    if not (run / SETTINGS).is_file():
        raise RunError(f"{run} is not a training run: it has no {SETTINGS}")
    return read_toml(run / SETTINGS)


def _comparable(name: str, value: Any) -> Any:
    """The value of a setting with folders resolved, so that two names of one folder are equal."""
    if name not in FOLDERS or not value:
        return value
    return str(Path(value).resolve()) if isinstance(value, str) else [str(Path(folder).resolve()) for folder in value]


_SETTINGS = TypeAdapter(Settings)
