"""A training run on disk: its settings, its checkpoints, and the way back to a model."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pumpseg.errors import PumpsegError
from pumpseg_train.data.augment import Recipe
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.network import MaskRCNN, build_mask_rcnn
from pumpseg_train.model.profile import PROFILES, Profile

SETTINGS = "settings.json"
BEST_WEIGHTS = "best.weights.h5"
BEST_METRICS = "best.json"
FINISHED = "finished"


class RunError(PumpsegError, ValueError):
    """A run folder that is missing, unfinished or does not match what is asked."""


@dataclass(frozen=True)
class Settings:
    """What defines a run; two runs with equal settings and data do the same."""

    data: str
    extras: tuple[str, ...] = ()
    cutouts: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    start: str = ""  # an earlier run to go on from; else the backbone's ImageNet weights
    profile: str = "edge"
    input_size: int = 384  # side of the square training pictures, and the default of export
    epochs: int = 24
    steps: int = 125
    batch_size: int = 8
    learning_rate: float = 1e-3
    backbone_rate: float = 0.25  # of the learning rate
    weight_decay: float = 5e-3
    warmup_steps: int = 60
    clip_norm: float = 10.0
    averaged_share: float = 0.1  # of the run: how far back the moving average of the weights reaches
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)

    def to_profile(self) -> Profile:
        """Raises: RunError for an unknown profile or a size that it cannot have."""
        if self.profile not in PROFILES:
            raise RunError(f"unknown profile {self.profile!r}: choose from {', '.join(PROFILES)}")
        try:
            return dataclasses.replace(PROFILES[self.profile], input_size=(self.input_size,) * 2)
        except ValueError as error:
            raise RunError(str(error)) from None


def write_settings(run: Path, settings: Settings, classes: tuple[str, ...]) -> None:
    """Creates the run folder; one that exists must have been made with the same settings.

    Raises:
        RunError: it was made with others, or cannot be written.
    """
    content = {"settings": dataclasses.asdict(settings), "classes": list(classes)}
    content = json.loads(json.dumps(content))
    path = run / SETTINGS
    if path.is_file():
        old = _read(run)
        changed = [name for name in content["settings"] if content["settings"][name] != old["settings"].get(name)]
        if changed or old["classes"] != content["classes"]:
            raise RunError(
                f"{run} was started with another {', '.join(changed) or 'set of classes'}: "
                "give the same options to resume it, or another --out"
            )
        return
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise RunError(f"cannot write {run}: {error.strerror}") from None


def load_run(run: Path) -> MaskRCNN:
    """The best model of a run.

    Raises:
        RunError: the folder is no run, or has no checkpoint yet.
    """
    classes = tuple(_read(run)["classes"])
    if not (run / BEST_WEIGHTS).is_file():
        raise RunError(f"{run} has no checkpoint yet: {BEST_WEIGHTS} is written after the first epoch")
    model = build_mask_rcnn(read_settings(run).to_profile(), classes)
    load_weights(model, run / BEST_WEIGHTS)
    return model


def read_settings(run: Path) -> Settings:
    """The settings that a run was started with.

    Raises:
        RunError: the folder is no run, or of another version of pumpseg.
    """
    fields = _read(run)["settings"]
    try:
        recipe = Recipe(**{name: _tuples(value) for name, value in fields.pop("recipe").items()})
        return Settings(**{name: _tuples(value) for name, value in fields.items()}, recipe=recipe)
    except (KeyError, TypeError) as error:
        raise RunError(f"{run / SETTINGS} is of another version of pumpseg: {error}") from None


def save_weights(model: MaskRCNN, path: Path) -> None:
    """Writes all weights to one HDF5 file, under another name until complete."""
    partial = path.with_name(f".partial-{path.name}")
    Detector(model).save_weights(partial)
    partial.replace(path)


def load_weights(model: MaskRCNN, path: Path) -> None:
    """Raises: RunError for a file that is damaged or of another architecture."""
    try:
        Detector(model).load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from None


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file under another name until complete."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def _read(run: Path) -> dict[str, Any]:
    path = run / SETTINGS
    if not path.is_file():
        raise RunError(f"{run} is not a training run: it has no {SETTINGS}")
    try:
        content = json.loads(path.read_text())
        return {"settings": dict(content["settings"]), "classes": list(content["classes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
