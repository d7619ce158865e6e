"""Weights of Matterport's mrcnn, the .h5 files of Keras 2: read, put into a model by layer name, written back."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from pumpseg.atomic_file import complete_file
from pumpseg.errors import PumpsegError, first_line
from pumpseg_train.model.hdf5_file import check_hdf5_file
from pumpseg_train.model.matterport import IDENTITY_BLOCKS
from pumpseg_train.model.network import MaskRCNN, build_mask_rcnn
from pumpseg_train.model.profile import Profile

# The layers whose shape depends on the number of classes: exclude them to train on other classes.
CLASS_LAYERS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")

_RPN_MODEL = "rpn_model"  # one group for these three layers, six arrays in this order
_RPN_LAYERS = ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")
_BOX_LAYERS = ("rpn_bbox_pred", "mrcnn_bbox_fc")  # dy dx dh dw in the file, dx dy dw dh here
_SWAPPED = np.array([1, 0, 3, 2])
_DENSE_LAYERS = ("mrcnn_class_conv1", "mrcnn_class_conv2")  # convolutions over the whole RoI in the file
_ATTRIBUTE_LIMIT = 64512  # bytes; Keras cuts longer lists of names into name0, name1, ...


class WeightsError(PumpsegError, ValueError):
    """A weights file that is missing, damaged, or of another network."""


@dataclass(frozen=True)
class Loaded:
    """Names of layers: loaded from the file, left at their initial values, and in the file but not used.

    foreign: ignored ones that hold weights. Forks of mrcnn for TensorFlow 2 save the anchors as well, which are none.
    """

    loaded: tuple[str, ...]
    left: tuple[str, ...]
    ignored: tuple[str, ...]
    foreign: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{len(self.loaded)} layers loaded"
        if self.left:
            text += f"; left at their initial values: {', '.join(self.left)}"
        if self.ignored:
            text += f"; ignored in the file: {', '.join(self.ignored)}"
        return text


def read_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of every layer that has any, by layer name, as they are in the file.

    Takes files of `save_weights` and whole models (`save`), whose weights are in the group "model_weights".

    Raises:
        WeightsError: it is missing, damaged or cut short, or not a weights file of Keras 2.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        check_hdf5_file(path)
        with h5py.File(path) as file:
            root = file if "layer_names" in file.attrs or "model_weights" not in file else file["model_weights"]
            names = read_names(root, "layer_names")
            seen: set[int] = set()
            layers = {name: _read_arrays(root[name], seen) for name in names}
    except Exception as error:  # HDF5 raises nearly anything for a damaged file
        raise WeightsError(f"{path} cannot be read, it may be damaged or cut short: {first_line(error)}") from None
    if not names:
        raise WeightsError(f"{path} is not a weights file of Keras 2 as mrcnn writes them: it has no layer_names")
    rpn = layers.pop(_RPN_MODEL, [])
    for number, name in enumerate(_RPN_LAYERS):
        if rpn:
            layers[name] = rpn[2 * number : 2 * number + 2]
    return {name: arrays for name, arrays in layers.items() if arrays}


def _read_arrays(layer: h5py.Group, seen: set[int]) -> list[np.ndarray]:
    """The arrays of a layer's group. seen: where those are in the file that were read before, so that none is twice."""
    arrays = []
    for name in read_names(layer, "weight_names"):
        array = layer[name]
        place = h5py.h5o.get_info(array.id).addr
        if not isinstance(array, h5py.Dataset) or place in seen:
            raise ValueError(f"{name} is not an array, or named twice")
        seen.add(place)
        arrays.append(np.asarray(array))
    return arrays


def count_classes(weights: dict[str, list[np.ndarray]]) -> int | None:
    """Classes of the file without the background; None if it has no class layer."""
    logits = weights.get("mrcnn_class_logits")
    return logits[-1].shape[0] - 1 if logits and logits[-1].ndim else None


def load_weights(model: MaskRCNN, path: Path, exclude: Collection[str] = ()) -> Loaded:
    """Fills the layers of `model` that the file names, all but those in `exclude`, and says which.

    Raises:
        WeightsError: the file cannot be read, is of another network, or has layers of another shape, such as those of
            other classes. The model is untouched then.
    """
    weights = read_weights(path)
    layers = {layer.name: layer for layer in _layers(model)}
    unknown = set(exclude) - set(layers) - {"mrcnn_bbox", _RPN_MODEL}
    if unknown:
        raise WeightsError(f"there is no layer {', '.join(sorted(unknown))} to exclude")
    excluded = {*exclude, *(_RPN_LAYERS if _RPN_MODEL in exclude else ())}
    if not layers.keys() & weights.keys():
        raise WeightsError(
            f"{path} is of another network: none of its {len(weights)} layers ({', '.join(list(weights)[:3])}, ...) "
            "is one of mrcnn's"
        )
    _check_depth(model, weights, path)
    found = count_classes(weights)
    if found not in (None, len(model.classes)) and not excluded.issuperset(CLASS_LAYERS):
        raise WeightsError(
            f"{path} knows {found} class{'es' * (found != 1)} and the background, here are {len(model.classes)} "
            f"({', '.join(model.classes[:3])}{', ...' if len(model.classes) > 3 else ''}): name all of its classes, or "
            f"exclude {', '.join(CLASS_LAYERS)} to train them from scratch"
        )
    chosen = {}
    for name, layer in layers.items():
        if name in excluded or name not in weights:
            continue
        shapes = [list(array.shape) for array in weights[name]]
        wanted = [list(array.shape) for array in _to_file(layer, model)]
        if shapes != wanted:
            raise WeightsError(f"{path}: layer {name} has the shapes {shapes}, not {wanted}: it is of another network")
        arrays = [_swap(array) for array in weights[name]] if name in _BOX_LAYERS else weights[name]
        chosen[name] = [array.reshape(weight.shape) for array, weight in zip(arrays, layer.weights, strict=True)]
    for name, arrays in chosen.items():
        layers[name].set_weights(arrays)
    ignored = tuple(name for name in weights if name not in chosen)
    return Loaded(
        tuple(chosen),
        tuple(name for name in layers if name not in chosen),
        ignored,
        tuple(name for name in ignored if not _is_anchors(weights[name])),
    )


def load_whole(path: Path, profile: Profile, classes: tuple[str, ...]) -> MaskRCNN:
    """The model of a file that has all of its weights and no others. Raises WeightsError for any other file."""
    model = build_mask_rcnn(profile, classes)
    loaded = load_weights(model, path)
    if loaded.left or loaded.foreign:
        raise WeightsError(f"{path} is not a whole {profile.name}: {loaded}")
    return model


def save_weights(model: MaskRCNN, path: Path) -> None:
    """Writes a file that `load_weights` of mrcnn itself reads, by name or by position.

    Raises:
        SinkError: it cannot be written.
    """
    groups: dict[str, list[tuple[str, np.ndarray]]] = {}
    for layer in _layers(model):
        group = _RPN_MODEL if layer.name in _RPN_LAYERS else layer.name
        groups.setdefault(group, []).extend(
            (f"{layer.name}/{weight.name}:0", array)
            for weight, array in zip(layer.weights, _to_file(layer, model), strict=True)
        )
    with complete_file(path) as partial, h5py.File(partial, "w", locking=False) as file:
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["keras_version"] = np.bytes_("2.2.4")
        write_names(file, "layer_names", list(groups))
        for name, arrays in groups.items():
            group = file.create_group(name)
            write_names(group, "weight_names", [weight for weight, _ in arrays])
            for weight, array in arrays:
                group[weight] = array


def _is_anchors(arrays: list[np.ndarray]) -> bool:
    """Whether a layer holds boxes (N, 4) or (B, N, 4) and nothing else."""
    return len(arrays) == 1 and arrays[0].ndim in (2, 3) and arrays[0].shape[-1] == 4


def _layers(model: MaskRCNN) -> Iterator[keras.layers.Layer]:
    """Layers with weights, in the order of mrcnn's own model."""
    for part in (model.trunk, model.box_head, model.mask_head):
        layers = [layer for layer in part.layers if layer.weights]
        yield from sorted(layers, key=lambda layer: layer.name == "mrcnn_bbox_fc")  # after mrcnn_class_logits


def _to_file(layer: keras.layers.Layer, model: MaskRCNN) -> list[np.ndarray]:
    """The arrays of a layer in the order and the shapes of the file."""
    arrays: list[np.ndarray] = layer.get_weights()
    if layer.name in _BOX_LAYERS:
        arrays = [_swap(array) for array in arrays]
    if layer.name in _DENSE_LAYERS:
        side = model.profile.box_pool if layer.name == _DENSE_LAYERS[0] else 1
        arrays[0] = arrays[0].reshape(side, side, -1, arrays[0].shape[1])
    return arrays


def _swap(array: np.ndarray) -> np.ndarray:
    """Boxes in the last axis, four numbers each, with x and y changing places."""
    return array.reshape(*array.shape[:-1], -1, 4)[..., _SWAPPED].reshape(array.shape)


def _check_depth(model: MaskRCNN, weights: dict[str, list[np.ndarray]], path: Path) -> None:
    if "mrcnn_mask" not in weights and _RPN_LAYERS[0] not in weights:
        return  # a trunk alone, such as ImageNet's ResNet-50: a deeper one takes the layers that it has
    blocks = sum(name.startswith("res4") and name.endswith("_branch2a") for name in weights)
    depths = {backbone: counts[2] + 1 for backbone, counts in IDENTITY_BLOCKS.items()}
    if blocks and blocks != depths[model.profile.backbone]:
        others = [
            f"a {backbone}, profile matterport-{backbone}" for backbone, depth in depths.items() if depth == blocks
        ]
        raise WeightsError(f"{path} is of {others[0] if others else 'another network'}, not a {model.profile.backbone}")


def read_names(group: h5py.Group, attribute: str) -> list[str]:
    """The names in an attribute, or in its chunks attribute0, attribute1, ..."""
    chunks = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(chunks)}" in group.attrs:
        chunks.append(group.attrs[f"{attribute}{len(chunks)}"])
    if any(np.ndim(chunk) != 1 for chunk in chunks):
        raise ValueError(f"its {attribute} is not a list of names")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for chunk in chunks for name in chunk]


def write_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Writes names as an attribute, or in chunks where they exceed HDF5's limit for one."""
    array = np.array([name.encode("utf-8") for name in names])
    # So many that the longest, which has one name more than others, is within the limit.
    count = max(1, -(-array.nbytes // _ATTRIBUTE_LIMIT))
    while count < len(array) and -(-len(array) // count) * array.itemsize > _ATTRIBUTE_LIMIT:
        count += 1
    chunks = np.array_split(array, count)
    for number, chunk in enumerate(chunks):
        group.attrs[attribute if len(chunks) == 1 else f"{attribute}{number}"] = chunk
