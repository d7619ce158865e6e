"""What the tests of training and export share: small data sets of drawn fruit, and one small training run of it.

Keras is imported inside the fixtures only, so that the tests of the runtime stay quick.
"""

import contextlib
import json
import os
import signal

import cv2
import numpy as np
import pytest
from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("pumpseg", deadline=None)
settings.load_profile("pumpseg")

# A job in the background of a script starts with SIGINT ignored, and so would the commands that tests stop by Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["KERAS_BACKEND"] = "tensorflow"  # what the tests compare with, whatever the user's own Keras is set to
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(autouse=True)
def _signals_as_before():
    """A handler that a test leaves would end the process at the next test that presses Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


ORANGE, BLUE = (230, 120, 20), (20, 60, 200)  # RGB
PHOTO = (120, 160)  # h, w


def drawn_photo(fruits, size=PHOTO):
    """A blue picture, uint8 RGB, with orange ellipses (x, y, rx, ry), and the exact mask bool of each."""
    rng = np.random.default_rng(len(fruits))
    image = np.clip(np.array(BLUE) + rng.integers(-15, 16, (*size, 3)), 0, 255).astype(np.uint8)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    masks = []
    for cx, cy, rx, ry in fruits:
        mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        image[mask] = ORANGE
        masks.append(mask)
    return image, masks


def rle(mask):
    """Uncompressed COCO RLE counts of a bool mask."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes]))
    counts = np.append(counts, mask.size - counts.sum())
    return {"size": list(mask.shape), "counts": [int(count) for count in counts if count or count is counts[0]]}


def write_split(folder, photos, classes=("pumpkin",), suffix="png"):
    """Writes images/ + annotations.json of `photos`: a list of lists of (class number, ellipse).

    Category ids are 3, 6, 9, ...
    """
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, fruits in enumerate(photos):
        image, masks = drawn_photo([ellipse for _, ellipse in fruits])
        name = f"{number}.{suffix}"
        cv2.imwrite(str(folder / "images" / name), image[..., ::-1])
        images.append({"id": 10 + number, "file_name": name, "height": PHOTO[0], "width": PHOTO[1]})
        for (class_number, _), mask in zip(fruits, masks, strict=True):
            x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + number,
                    "category_id": 3 * (class_number + 1),
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "bbox": [x, y, w, h],
                    "segmentation": rle(mask),
                }
            )
    categories = [{"id": 3 * (number + 1), "name": name} for number, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


LARGE, MIDDLE, SMALL = (60, 60, 40, 35), (120, 70, 25, 28), (30, 95, 14, 12)


def write_dataset(folder, classes=("pumpkin",)):
    last = len(classes) - 1
    write_split(folder / "train", [[(0, LARGE), (last, MIDDLE)], [(0, SMALL)], [(last, MIDDLE)]], classes)
    write_split(folder / "val", [[(0, LARGE)], [(last, SMALL), (0, MIDDLE)]], classes)
    return folder


@pytest.fixture(scope="session")
def fruit(tmp_path_factory):
    """A data set with the class pumpkin: 3 training and 2 validation photos of orange ellipses on blue."""
    return write_dataset(tmp_path_factory.mktemp("data") / "fruit")


@pytest.fixture
def make_split():
    """Writes one split of drawn photos; see `write_split`."""
    return write_split


@pytest.fixture(scope="session")
def draw_photo():
    """Draws a photo and its masks; see `drawn_photo`."""
    return drawn_photo


@pytest.fixture(scope="session")
def tiny_settings(fruit):
    """Settings of a run that takes seconds: 2 epochs of 2 steps at 96 pixels."""
    from pumpseg_train.training.run import Settings

    return Settings(
        data=str(fruit),
        input_size=96,
        epochs=2,
        steps=2,
        batch_size=2,
        warmup_steps=1,
        pictures_every=2,
        averaged_share=5.0,  # so that the moving average differs from the weights after these few steps
        seed=5,
    )


class Training:
    """A finished run: its `folder`, its `trainer`, and the (epoch, step) of all batches that were `drawn`."""

    def __init__(self, folder):
        self.folder = folder
        self.trainers, self.drawn = [], []

    @property
    def trainer(self):
        return self.trainers[-1]

    @staticmethod
    def spy(monkeypatch, trainers, drawn):
        """Notes every trainer that is made and every batch that is drawn from now on."""
        from pumpseg_train.samples.loader import Batches
        from pumpseg_train.training import fit

        class NotedTrainer(fit.Trainer):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                trainers.append(self)

        class NotedBatches(Batches):
            def __getitem__(self, step):
                drawn.append((self.epoch, step))
                return super().__getitem__(step)

        monkeypatch.setattr(fit, "Trainer", NotedTrainer)
        monkeypatch.setattr(fit, "Batches", NotedBatches)


@contextlib.contextmanager
def untraced():
    """Runs Keras step by step: for a few steps that is quicker than to trace the graph of one."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def step_by_step():
    with untraced():
        yield


@pytest.fixture(scope="session")
def tiny_training(tiny_settings, tmp_path_factory):
    """A finished run of `tiny_settings`."""
    from pumpseg_train.training.fit import fit

    training = Training(tmp_path_factory.mktemp("runs") / "tiny")
    with pytest.MonkeyPatch.context() as monkeypatch:
        training.spy(monkeypatch, training.trainers, training.drawn)
        with untraced():
            fit(tiny_settings, training.folder)
    return training


@pytest.fixture(scope="session")
def tiny_run(tiny_training):
    """The folder of that run; not to be written to."""
    return tiny_training.folder


@pytest.fixture(scope="session")
def tiny_model():
    """A Mask R-CNN for 96x96 pictures with random weights and the classes apple and pumpkin."""
    import dataclasses

    import keras

    from pumpseg_train.model.network import build_mask_rcnn
    from pumpseg_train.model.profile import EDGE

    keras.utils.set_random_seed(3)
    return build_mask_rcnn(dataclasses.replace(EDGE, input_size=(96, 96)), ("apple", "pumpkin"))


@pytest.fixture(scope="session")
def narrow_matterport():
    """The profile matterport-resnet50 for 128x128 pictures, thin beyond the backbone."""
    import dataclasses

    from pumpseg.inference.letterbox import Rule
    from pumpseg_train.model.profile import MATTERPORT_RESNET50

    return dataclasses.replace(
        MATTERPORT_RESNET50,
        input_size=(128, 128),
        letterbox=Rule("centred", min_side=128),
        fpn_channels=16,
        rpn_channels=16,
        box_units=16,
        mask_channels=16,
    )


@pytest.fixture(scope="session")
def tiny_export(tiny_run, tmp_path_factory):
    """That run as a model file (`path`), what pumpseg-export printed (`out`), and the `graph` that it assembled."""
    import io
    from types import SimpleNamespace

    from pumpseg_export import export
    from pumpseg_export.cli import main

    result = SimpleNamespace(path=tmp_path_factory.mktemp("export") / "tiny.onnx")
    assemble = export.assemble

    def noted(*arguments):
        result.graph = assemble(*arguments)
        return result.graph

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        monkeypatch.setattr(export, "assemble", noted)
        assert main([str(tiny_run), "-o", str(result.path), "--licence", "CC0-1.0"]) == 0
    result.out = printed.getvalue()
    return result


@pytest.fixture(scope="session")
def tiny_onnx(tiny_export):
    """The path of that model file."""
    return tiny_export.path
