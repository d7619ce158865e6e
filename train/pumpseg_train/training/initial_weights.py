"""What a run starts from: ImageNet, the general weights of this package, another run, or an exported model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pumpseg.atomic_file import complete_file
from pumpseg.inference.model_file import SHIPPED_MODELS, find_model, parse_metadata
from pumpseg.plural import counted
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.onnx_weights import read_onnx_weights
from pumpseg_train.training.run import BEST_WEIGHTS, RunError, load_run

GENERAL = "general"
IMAGENET = "imagenet"
GENERAL_WEIGHTS = Path(__file__).parents[1] / "weights" / "general.npz"
CLASS_LAYER = "class_logits"


@dataclass(frozen=True)
class Transfer:
    """Which layers with weights were taken from `source`, and which start from random weights."""

    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]

    def describe(self) -> str:
        """One line for the user."""
        if not self.taken:
            fresh = counted(len(self.fresh), "layer")
            return f"starting from the backbone's ImageNet weights; randomly initialised: {fresh}"
        if not self.fresh:
            return f"starting from {self.source}: all {counted(len(self.taken), 'layer')}"
        names = ", ".join(self.fresh)
        return f"starting from {self.source}: {counted(len(self.taken), 'layer')}; randomly initialised: {names}"


def check_source(source: str) -> None:
    """Raises RunError if there is no such source, without reading its weights."""
    if source in (GENERAL, IMAGENET, *SHIPPED_MODELS):
        return
    path = Path(source)
    if path.is_dir():
        if not (path / BEST_WEIGHTS).is_file():
            raise RunError(f"--init-from {source}: the folder has no checkpoint {BEST_WEIGHTS} of a training run")
    elif not path.is_file():
        names = ", ".join((GENERAL, IMAGENET, *SHIPPED_MODELS))
        raise RunError(f"--init-from {source}: not {names}, an ONNX file or the folder of a run")


def initialise(model: MaskRCNN, source: str) -> Transfer:
    """Fills `model`, which has ImageNet weights in its backbone, from `source`; layers of another shape keep theirs.

    source: "imagenet", "general", the name of a shipped model, an exported file (.onnx), or the folder of a run. The
    class layer is taken only from a model of the same classes in the same order.

    Raises:
        RunError: there is no such source.
        PumpsegError: an exported file does not hold the weights of this profile.
    """
    layers = {layer.name: layer for part in model.parts.values() for layer in part.layers if layer.weights}
    if source == IMAGENET:
        fresh = [name for name in layers if not name.startswith(("stem", "block"))]
        return Transfer(source, (), tuple(fresh))
    check_source(source)
    weights, classes = _read_weights(model, source)
    if classes != model.classes:
        weights.pop(CLASS_LAYER, None)
    taken, fresh = [], []
    for name, layer in layers.items():
        values = weights.get(name)
        if values is not None and [value.shape for value in values] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(values)
            taken.append(name)
        elif not name.endswith("_bn"):  # frozen: ImageNet's in every model
            fresh.append(name)
    return Transfer(source, tuple(taken), tuple(fresh))


def save_general(model: MaskRCNN, path: Path) -> None:
    """Writes the weights of every layer but the class layer to one .npz file, in half precision."""
    arrays = {}
    for part in model.parts.values():
        for layer in part.layers:
            if layer.name == CLASS_LAYER or layer.name.endswith("_bn"):
                continue
            for number, values in enumerate(layer.get_weights()):
                arrays[f"{layer.name}/{number}"] = values.astype(np.float16)
    with complete_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _read_weights(model: MaskRCNN, source: str) -> tuple[dict[str, list[np.ndarray]], tuple[str, ...] | None]:
    """Weights by layer, and the classes of the class layer."""
    if source == GENERAL:
        return _read_general(GENERAL_WEIGHTS), None
    if Path(source).is_dir() and source not in SHIPPED_MODELS:
        earlier = load_run(Path(source))
        layers = [layer for part in earlier.parts.values() for layer in part.layers if layer.weights]
        return {layer.name: layer.get_weights() for layer in layers}, earlier.classes
    path = find_model(source)
    return read_onnx_weights(model, path), _exported_classes(path)


def _read_general(path: Path) -> dict[str, list[np.ndarray]]:
    """What `save_general` wrote. Raises RunError where this installation lacks it."""
    try:
        with np.load(path) as content:
            weights: dict[str, list[np.ndarray]] = {}
            for name in content.files:  # in the order in which they were saved
                weights.setdefault(name.rpartition("/")[0], []).append(content[name].astype(np.float32))
    except OSError as error:
        raise RunError(f"the weights {GENERAL!r} are missing from this installation: {error}") from None
    return weights


def _exported_classes(path: Path) -> tuple[str, ...]:
    """The class names in the metadata of an exported file."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
    return parse_metadata(metadata, path).class_names
