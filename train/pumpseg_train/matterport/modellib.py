"""`mrcnn.model` as scripts and notebooks call it: `from pumpseg_train.matterport import modellib`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg_train.matterport.config import setting, to_profile
from pumpseg_train.matterport.dataset import augmented, fit_square
from pumpseg_train.matterport.mask_rcnn import MaskRCNN
from pumpseg_train.matterport.utils import extract_bboxes, minimize_mask, resize_image

__all__ = ["MaskRCNN", "compose_image_meta", "load_image_gt", "log", "mold_image", "unmold_image"]


def log(text: str, array: NDArray[Any] | None = None) -> None:
    """Prints a text and, of an array, its shape, range and type."""
    if array is not None:
        span = f"min: {array.min():10.5f}  max: {array.max():10.5f}" if array.size else f"min: {'':10}  max: {'':10}"
        text = f"{text:25}  shape: {array.shape!s:20}  {span}  {array.dtype}"
    print(text)


def load_image_gt(
    dataset: Any,
    config: Any,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any], NDArray[np.int32], NDArray[np.bool_]]:
    """An image of a data set and its truth as the model sees them.

    augment: mirrors every other image. augmentation: as for `MaskRCNN.train`.
    Returns the image uint8 (S, S, 3), its meta data, class numbers (N,), boxes int32 (N, 4) y1 x1 y2 x2, and masks
    bool (S, S, N), or as small as `MINI_MASK_SHAPE` with `use_mini_mask`. Raises DatasetError.
    """
    profile = to_profile(config)
    original = np.asarray(dataset.load_image(image_id))
    masks, class_ids = (np.asarray(array) for array in dataset.load_mask(image_id))
    image, masks = fit_square(original, masks, profile)
    if augment and np.random.default_rng().random() < 0.5:
        image, masks = image[:, ::-1].copy(), masks[:, ::-1].copy()
    if augmentation is not None:
        image, masks = augmented(augmentation, image, masks)
    seen = masks.any(axis=(0, 1))
    masks, class_ids = masks[..., seen], class_ids[seen]
    boxes = extract_bboxes(masks)
    if use_mini_mask:
        masks = minimize_mask(boxes, masks, setting(config, "MINI_MASK_SHAPE"))
    active = np.zeros(len(dataset.class_info), np.int32)
    active[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    _, window, scale, _, _ = resize_image(
        np.zeros((*original.shape[:2], 3), np.uint8),
        setting(config, "IMAGE_MIN_DIM"),
        setting(config, "IMAGE_MAX_DIM"),
        setting(config, "IMAGE_MIN_SCALE"),
    )
    meta = compose_image_meta(image_id, original.shape, image.shape, window, scale, active)
    return image, meta, class_ids, boxes, masks


def compose_image_meta(
    image_id: int, original_image_shape: Any, image_shape: Any, window: Any, scale: float, active_class_ids: Any
) -> NDArray[Any]:
    """The meta data of an image in one array, in the order of mrcnn."""
    return np.array([image_id, *original_image_shape, *image_shape, *window, scale, *active_class_ids])


def mold_image(images: NDArray[Any], config: Any) -> NDArray[np.float32]:
    """RGB images as the network takes them: less the mean colour."""
    return (images.astype(np.float32) - setting(config, "MEAN_PIXEL")).astype(np.float32)


def unmold_image(normalized_images: NDArray[Any], config: Any) -> NDArray[np.uint8]:
    """The RGB images that `mold_image` was given."""
    return np.rint(normalized_images + setting(config, "MEAN_PIXEL")).astype(np.uint8)
