"""Matterport's `Dataset`: a base class for users without mrcnn itself, and batches from any such object."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pumpseg.errors import DatasetError, SourceError
from pumpseg.images import read_image
from pumpseg.inference.letterbox import letterbox
from pumpseg_train.matterport.config import setting
from pumpseg_train.matterport.targets import anchor_targets
from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import Profile
from pumpseg_train.samples.error_capture import ErrorCapturingBatches


class Dataset:
    """What mrcnn.utils.Dataset offers to subclasses, which override `load_mask` and mostly nothing else."""

    def __init__(self) -> None:
        self.image_info: list[dict[str, Any]] = []
        self.class_info: list[dict[str, Any]] = [{"source": "", "id": 0, "name": "BG"}]
        self.source_class_ids: dict[str, list[int]] = {}
        self.image_ids = np.arange(0)

    def add_class(self, source: str, class_id: Any, class_name: str) -> None:
        """Raises: DatasetError for a dot in the source's name."""
        if "." in source:
            raise DatasetError(f"the source name {source!r} must not contain a dot")
        if not any(info["source"] == source and info["id"] == class_id for info in self.class_info):
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: Any, **info: Any) -> None:
        self.image_info.append({"id": image_id, "source": source, "path": path, **info})

    def prepare(self) -> None:
        """To be called when all classes and images are added."""
        self.num_classes, self.num_images = len(self.class_info), len(self.image_info)
        self.class_ids, self.image_ids = np.arange(self.num_classes), np.arange(self.num_images)
        self.class_names = [info["name"].split(",")[0] for info in self.class_info]
        self.sources = sorted({info["source"] for info in self.class_info})
        self.source_class_ids = {
            source: [i for i, info in enumerate(self.class_info) if i == 0 or info["source"] == source]
            for source in self.sources
        }
        self.class_from_source_map = {f"{info['source']}.{info['id']}": i for i, info in enumerate(self.class_info)}
        self.image_from_source_map = {f"{info['source']}.{info['id']}": i for i, info in enumerate(self.image_info)}

    def map_source_class_id(self, source_class_id: str) -> int:
        """The class number of "source.id"."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        info = self.class_info[class_id]
        if info["source"] != source:
            raise DatasetError(f"class {class_id} is of the source {info['source']!r}, not {source!r}")
        return info["id"]

    def source_image_link(self, image_id: int) -> Any:
        """The path or URL of an image."""
        return self.image_info[image_id]["path"]

    def image_reference(self, image_id: int) -> str:
        """Where an image comes from, for people; override it."""
        return ""

    def load_image(self, image_id: int) -> np.ndarray:
        """uint8 RGB (H, W, 3). Raises: DatasetError for a file that is not an image."""
        path = Path(self.image_info[image_id]["path"])
        try:
            image = read_image(path, upright=False)
        except SourceError as error:
            raise DatasetError(f"cannot read the image {path}: {error}") from None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool (H, W, N) and class numbers int32 (N,); override it."""
        return np.empty((0, 0, 0)), np.empty(0, np.int32)


class Batches(ErrorCapturingBatches):
    """`steps` batches of an epoch as `trainer.MatterportTrainer` takes them, images in a new random order each pass.

    Images without instances are skipped, as by mrcnn's data_generator; one that cannot be loaded raises a DatasetError
    that names it.
    """

    def __init__(
        self, dataset: Any, config: Any, profile: Profile, *, steps: int, seed: int = 0, augmentation: Any = None
    ) -> None:
        super().__init__(workers=1, max_queue_size=4)
        self._dataset, self._config, self._profile = dataset, config, profile
        self._steps, self._seed, self._augmentation = steps, seed, augmentation
        self._batch_size = setting(config, "IMAGES_PER_GPU") * setting(config, "GPU_COUNT")
        self._anchors = bx.anchors(profile, profile.input_size) + np.array(
            [0, 0, profile.compat.last_pixel, profile.compat.last_pixel]
        )
        self.epoch = 0
        if not len(dataset.image_ids):
            raise DatasetError("the data set has no images: add_image() them, then call prepare()")

    def __len__(self) -> int:
        return self._steps

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Raises DatasetError."""
        first = (self.epoch * self._steps + step) * self._batch_size
        samples = [self._sample(first + index) for index in range(self._batch_size)]
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, number: int) -> dict[str, np.ndarray]:
        ids = np.asarray(self._dataset.image_ids)
        for place_in_order in range(number, number + len(ids)):
            turn, position = divmod(place_in_order, len(ids))
            image_id = int(np.random.default_rng((self._seed, turn)).permutation(ids)[position])
            rng = np.random.default_rng((self._seed, number, image_id))
            sample = self._load(image_id, rng)
            if (sample["class_ids"] > 0).any():
                return sample
        raise DatasetError("no image of the data set shows an instance: does load_mask() return any?")

    def _load(self, image_id: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        try:
            image = np.asarray(self._dataset.load_image(image_id))
            masks, class_ids = (np.asarray(array) for array in self._dataset.load_mask(image_id))
            if masks.shape[-1] != len(class_ids):
                raise ValueError(f"load_mask() gave {masks.shape[-1]} masks and {len(class_ids)} class numbers")
            most = setting(self._config, "NUM_CLASSES") - 1
            if strange := [int(number) for number in class_ids if not 0 < abs(number) <= most]:
                raise ValueError(f"load_mask() gave the class number {strange[0]}, not 1..{most}")
            image, masks = fit_square(image, masks, self._profile)
        except Exception as error:
            info = self._dataset.image_info[image_id]
            what = f"{type(error).__name__}: {error}"
            raise DatasetError(
                f"image {image_id} ({info.get('path') or info.get('id')}) cannot be loaded: {what}"
            ) from error
        if self._augmentation is not None:
            image, masks = augmented(self._augmentation, image, masks)
        kept = masks.any(axis=(0, 1))
        masks, class_ids = masks[..., kept], class_ids[kept]
        most = setting(self._config, "MAX_GT_INSTANCES")
        if len(class_ids) > most:
            chosen = rng.choice(len(class_ids), most, replace=False)
            masks, class_ids = masks[..., chosen], class_ids[chosen]
        boxes = boxes_of_masks(masks)
        count = len(class_ids)
        match, index = anchor_targets(
            self._anchors, boxes, class_ids, rng, samples=setting(self._config, "RPN_TRAIN_ANCHORS_PER_IMAGE")
        )
        shape = tuple(setting(self._config, "MINI_MASK_SHAPE"))
        if not setting(self._config, "USE_MINI_MASK"):
            shape = (4 * self._profile.mask_size,) * 2  # finer than any target that is cut from it
        sample = {
            "image": image,
            "boxes": np.zeros((most, 4), np.float32),
            "class_ids": np.zeros(most, np.int32),
            "mini_masks": np.zeros((most, *shape), np.uint8),
            "active": self._active(image_id),
            "anchor_match": match,
            "anchor_truth": index,
        }
        sample["boxes"][:count], sample["class_ids"][:count] = boxes, class_ids
        for number, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
            crop = masks[y1:y2, x1:x2, number].astype(np.float32)
            sample["mini_masks"][number] = cv2.resize(crop, shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        return sample

    def _active(self, image_id: int) -> np.ndarray:
        """1 for the classes that the image's source labels, 0 for those it leaves unlabelled."""
        active = np.zeros(len(self._dataset.class_info), np.float32)
        active[self._dataset.source_class_ids[self._dataset.image_info[image_id]["source"]]] = 1
        return active


def fit_square(image: np.ndarray, masks: np.ndarray, profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3) and masks (H, W, N) as utils.resize_image(mode="square") and utils.resize_mask fit them.

    Raises:
        DatasetError: they are of other shapes or types than load_image and load_mask should return.
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise DatasetError(f"load_image() must return uint8 (H, W, 3), not {image.dtype} {image.shape}")
    image = np.ascontiguousarray(image[..., :3])
    if masks.ndim != 3 or (masks.shape[2] and masks.shape[:2] != image.shape[:2]):
        raise DatasetError(f"load_mask() must return (H, W, N) of an image of {image.shape[:2]}, not {masks.shape}")
    size = profile.input_size
    fitted, where = letterbox(image, size, profile.fill, rule=profile.letterbox)
    result = np.zeros((*size, masks.shape[2]), bool)
    if masks.shape[2]:
        rows, columns = map(nearest, image.shape[:2], where.content_size)
        (top, left), (height, width) = where.offset, where.content_size
        result[top : top + height, left : left + width] = masks[rows][:, columns].astype(bool)
    return fitted, result


def nearest(given: int, wanted: int) -> np.ndarray:
    """Which of `given` rows each of the `wanted` rows shows in scipy.ndimage.zoom(order=0): the nearest, int (wanted,).

    The outer rows are exactly on each other.
    """
    return np.floor(np.arange(wanted) * ((given - 1) / max(wanted - 1, 1)) + 0.5).astype(int)


def boxes_of_masks(masks: np.ndarray) -> np.ndarray:
    """Boxes float32 (N, 4) xyxy around masks bool (H, W, N), each of which has a pixel at least."""
    boxes = np.zeros((masks.shape[2], 4), np.float32)
    for axis in (0, 1):  # rows, columns
        used = np.asarray(masks.any(axis=1 - axis))
        boxes[:, 1 - axis] = used.argmax(axis=0)
        boxes[:, 3 - axis] = len(used) - used[::-1].argmax(axis=0)
    return boxes


def augmented(augmentation: Any, image: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function of both, or an imgaug augmenter, of which masks get only the geometric part."""
    if not hasattr(augmentation, "to_deterministic"):
        changed = augmentation(image, masks)
    else:
        import imgaug

        geometric = [
            "Sequential",
            "SomeOf",
            "OneOf",
            "Sometimes",
            "Fliplr",
            "Flipud",
            "CropAndPad",
            "Affine",
            "PiecewiseAffine",
        ]
        hooks = imgaug.HooksImages(activator=lambda _, augmenter, *__: type(augmenter).__name__ in geometric)
        same = augmentation.to_deterministic()
        changed = same.augment_image(image), same.augment_image(masks.astype(np.uint8), hooks=hooks)
    new_image, new_masks = changed
    if new_image.shape != image.shape or new_masks.shape != masks.shape:
        raise DatasetError(f"augmentation must keep the size: {image.shape}, {masks.shape} became {new_image.shape}")
    return new_image.astype(np.uint8), new_masks.astype(bool)
