"""`MaskRCNN` as scripts for Matterport's mrcnn use it: load weights, train in stages, detect."""

import contextlib
import datetime
import functools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg_train.evaluation.metrics import Predict
from pumpseg_train.matterport.config import ConfigError, setting, to_profile
from pumpseg_train.matterport.dataset import Batches
from pumpseg_train.matterport.trainer import MatterportTrainer
from pumpseg_train.matterport.utils import download
from pumpseg_train.matterport.weights_file import Loaded, load_weights, save_weights
from pumpseg_train.model.network import MaskRCNN as MaskRcnnNetwork
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.samples.loader import one_opencv_thread
from pumpseg_train.training.predictor import predictor

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
STAGES = {
    "heads": _HEADS,
    "5+": rf"(res5.*)|(bn5.*)|{_HEADS}",
    "4+": rf"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{_HEADS}",
    "all": ".*",
}


IMAGENET_URL = (
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.2/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
)


class TrainingError(PumpsegError, ValueError):
    """A training that cannot be started or went wrong."""


class MaskRCNN:
    """The model of a `Config`, in the mode "training" or "inference"; both know all methods, the name is mrcnn's.

    Attributes: `config`, `mode`, `model_dir`, `epoch` (finished ones), `log_dir` (of this training), and `network`, the
    `model.network.MaskRCNN` inside.

        model = MaskRCNN(mode="training", config=BalloonConfig(), model_dir="logs")
        model.load_weights("mask_rcnn_coco.h5", by_name=True, exclude=CLASS_LAYERS)
        model.train(dataset_train, dataset_val, learning_rate=0.001, epochs=30, layers="heads")
    """

    def __init__(self, mode: str, config: Any, model_dir: str | Path) -> None:
        if mode not in ("training", "inference"):
            raise ConfigError(f"the mode must be 'training' or 'inference', not {mode!r}")
        self.mode, self.config, self.model_dir = mode, config, Path(model_dir)
        profile = to_profile(config)
        classes = tuple(f"class {number}" for number in range(1, setting(config, "NUM_CLASSES")))
        if not classes:
            raise ConfigError("NUM_CLASSES counts the background: it must be 2 at least")
        self.network = build_mask_rcnn(profile, classes)
        self._seed = 0
        self._set_log_dir(None)

    def load_weights(self, filepath: str | Path, by_name: bool = True, exclude: Collection[str] = ()) -> Loaded:
        """Loads the layers in the file, prints which, and continues from its epoch if it is a checkpoint.

        Layers are always taken by name; `by_name` is there for scripts that give it.
        """
        loaded = load_weights(self.network, Path(filepath), exclude or ())
        print(f"{filepath}: {loaded}")
        self._set_log_dir(Path(filepath))
        return loaded

    def save_weights(self, filepath: str | Path) -> None:
        """Writes a `.h5` that mrcnn itself loads."""
        save_weights(self.network, Path(filepath))

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Starts a log folder with the time in its name, or continues that of a checkpoint, and from its epoch."""
        self._set_log_dir(Path(model_path) if model_path else None)

    def get_imagenet_weights(self) -> str:
        """Path of ResNet-50's weights of ImageNet, downloaded once; a ResNet-101 gets them as far as it has the layers.

        Raises: PumpsegError if they cannot be downloaded.
        """
        path = Path.home() / ".keras" / "models" / IMAGENET_URL.rpartition("/")[2]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"downloading {IMAGENET_URL} ...")
            download(IMAGENET_URL, path)
        return str(path)

    @property
    def keras_model(self) -> "KerasModel":
        """What scripts use of the Keras model inside."""
        return KerasModel(self.network)

    def find_last(self) -> str:
        """The last checkpoint of the last training of this configuration in `model_dir`.

        Raises: TrainingError if there is none.
        """
        name = self._name()
        folders = sorted(path for path in self.model_dir.glob(f"{name}*") if path.is_dir())
        checkpoints = sorted(folders[-1].glob("mask_rcnn*.h5")) if folders else []
        if not checkpoints:
            where = folders[-1] if folders else self.model_dir
            raise TrainingError(f"no checkpoint mask_rcnn_{name}_*.h5 in {where}")
        return str(checkpoints[-1])

    def train(
        self,
        train_dataset: Any,
        val_dataset: Any,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> None:
        """Trains up to the epoch `epochs`, earlier calls and a loaded checkpoint counted.

        layers: "heads", "5+", "4+", "3+", "all", or a regular expression of layer names. augmentation: an imgaug
        augmenter, or a function of image uint8 (H, W, 3) and masks bool (H, W, N) that returns both. custom_callbacks:
        of Keras, in addition to those that write checkpoints and the history.

        After every epoch a checkpoint is written to `log_dir`, and a row to its history.csv.

        Raises:
            TrainingError: the data does not fit the configuration, no layer matches, or the loss became NaN or
                infinite.
            DatasetError: an image or a mask cannot be loaded.
        """
        config, profile = self.config, self.network.profile
        for dataset in (train_dataset, val_dataset):
            count = len(dataset.class_info)
            if count != setting(config, "NUM_CLASSES"):
                raise TrainingError(
                    f"the data set has {count} classes with the background, NUM_CLASSES says {config.NUM_CLASSES}"
                )
        if self.epoch >= epochs:
            raise TrainingError(f"{self.epoch} epochs are done already: ask for more than {epochs}")
        self.choose_layers(STAGES.get(layers, layers))
        trainer = MatterportTrainer(self.network, config, self._seed)
        optimizer = keras.optimizers.SGD(
            learning_rate,
            momentum=setting(config, "LEARNING_MOMENTUM"),
            global_clipnorm=setting(config, "GRADIENT_CLIP_NORM"),
        )
        trainer.compile(optimizer, jit_compile=False)
        training = Batches(
            train_dataset, config, profile, steps=config.STEPS_PER_EPOCH, seed=self._seed, augmentation=augmentation
        )
        steps = setting(config, "VALIDATION_STEPS")
        validation = Batches(val_dataset, config, profile, steps=steps, seed=self._seed) if steps else None
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with one_opencv_thread(), contextlib.ExitStack() as errors:
            for batches in filter(None, (training, validation)):
                errors.enter_context(batches.original_error())
            trainer.fit(
                training,
                initial_epoch=self.epoch,
                epochs=epochs,
                validation_data=validation,
                shuffle=False,  # the batches are drawn at random already
                callbacks=[
                    _Checkpoints(self, training),
                    keras.callbacks.CSVLogger(self.log_dir / "history.csv", append=True),
                    *(custom_callbacks or ()),
                ],
            )

    def detect(self, images: list[np.ndarray], verbose: int = 0) -> list[dict[str, np.ndarray]]:
        """Detections of images uint8 RGB (H, W, 3), one dict each as mrcnn gives them.

        {"rois": int32 (N, 4) y1 x1 y2 x2, "class_ids": int32 (N,) from 1, "scores": float32 (N,), "masks": bool
        (H, W, N)}, best first.
        """
        results = []
        for image in images:
            found = self.predict(np.ascontiguousarray(image[..., ::-1]))
            results.append(
                {
                    "rois": found.boxes[:, [1, 0, 3, 2]].astype(np.int32),
                    "class_ids": (found.class_ids + 1).astype(np.int32),
                    "scores": found.scores,
                    "masks": np.moveaxis(found.masks, 0, -1),
                }
            )
        return results

    @functools.cached_property
    def predict(self) -> Predict:
        """Frame -> instances; it shares the network's variables, so later weights count, and is traced once."""
        return predictor(self.network)

    def choose_layers(self, expression: str) -> None:
        """Makes the layers trainable whose names match, and no others. Raises TrainingError if none does."""
        try:
            matches = re.compile(expression).fullmatch
        except re.error as error:
            raise TrainingError(f"layers={expression!r} is neither a stage nor a regular expression: {error}") from None
        chosen = 0
        for part in self.network.parts.values():
            for layer in part.layers:
                layer.trainable = bool(matches(layer.name))
                chosen += bool(layer.trainable and layer.weights)
        if not chosen:
            raise TrainingError(f"layers={expression!r} matches no layer; stages are {', '.join(STAGES)}")
        print(f"training {chosen} layers")

    def _name(self) -> str:
        return str(setting(self.config, "NAME") or "mask_rcnn").lower()

    def _set_log_dir(self, weights: Path | None) -> None:
        """A folder with the time in its name, or that of a checkpoint, whose epoch is taken as well."""
        self.epoch = 0
        checkpoint = re.fullmatch(r"mask_rcnn_.*?(\d{4})\.h5", weights.name) if weights else None
        if weights and checkpoint and re.search(r"\d{8}T\d{4}$", weights.parent.name):
            self.epoch, self.log_dir = int(checkpoint[1]), weights.parent
        else:
            self.log_dir = self.model_dir / f"{self._name()}{datetime.datetime.now():%Y%m%dT%H%M}"


class KerasModel:
    """Layers and weights of a network under the names of a Keras model; `detect` and `train` are those of MaskRCNN."""

    def __init__(self, network: MaskRcnnNetwork) -> None:
        self._network = network

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers of trunk, box head and mask head."""
        return [layer for part in self._network.parts.values() for layer in part.layers]

    def get_layer(self, name: str) -> keras.layers.Layer:
        """Raises: ValueError if there is none of this name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"there is no layer {name!r}")

    def save_weights(self, filepath: str | Path) -> None:
        """Writes a `.h5` that mrcnn itself loads."""
        save_weights(self._network, Path(filepath))

    def load_weights(self, filepath: str | Path, by_name: bool = True) -> None:
        """Loads the layers in the file, always by name."""
        load_weights(self._network, Path(filepath))

    def summary(self, **options: Any) -> None:
        """Prints the layers of trunk, box head and mask head."""
        for part in self._network.parts.values():
            part.summary(**options)


class _Checkpoints(keras.callbacks.Callback):
    """Gives each epoch its own samples, writes its checkpoint, and stops at a loss that is NaN or infinite."""

    def __init__(self, owner: MaskRCNN, batches: Batches) -> None:
        super().__init__()
        self._owner, self._batches = owner, batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs and not np.isfinite(logs["loss"]):
            raise TrainingError(f"the loss became {logs['loss']}: try a lower learning rate")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        owner = self._owner
        owner.epoch = epoch + 1
        owner.save_weights(owner.log_dir / f"mask_rcnn_{owner._name()}_{epoch + 1:04d}.h5")
