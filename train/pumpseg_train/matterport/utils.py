"""`mrcnn.utils` as scripts and notebooks call it: boxes are y1 x1 y2 x2, masks (H, W, N), class numbers from 1."""

import contextlib
import shutil
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import complete_file
from pumpseg.boxes import box_iou
from pumpseg.errors import PumpsegError, first_line
from pumpseg.inference.letterbox import Rule, letterbox
from pumpseg.redaction import redacted, redacted_text
from pumpseg_train.matterport.config import ConfigError
from pumpseg_train.matterport.dataset import Dataset, boxes_of_masks, nearest

__all__ = [
    "COCO_MODEL_URL",
    "Dataset",
    "compute_ap",
    "compute_ap_range",
    "compute_iou",
    "compute_matches",
    "compute_overlaps",
    "compute_overlaps_masks",
    "compute_recall",
    "download_trained_weights",
    "expand_mask",
    "extract_bboxes",
    "minimize_mask",
    "non_max_suppression",
    "resize_image",
    "resize_mask",
]

COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"

Window = tuple[int, int, int, int]
Padding = list[tuple[int, int]]


def extract_bboxes(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Boxes (N, 4) around masks (H, W, N); zeros around an empty one."""
    boxes = np.zeros((mask.shape[2], 4), np.int32)
    used = mask.any(axis=(0, 1))
    boxes[used] = boxes_of_masks(mask[..., used])[:, [1, 0, 3, 2]]
    return boxes


def compute_iou(
    box: NDArray[Any], boxes: NDArray[Any], box_area: float | None = None, boxes_area: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Overlaps (N,) of a box (4,) with boxes (N, 4); the areas that mrcnn takes are not needed."""
    return compute_overlaps(np.asarray(box)[None], boxes)[0]


def compute_overlaps(boxes1: NDArray[Any], boxes2: NDArray[Any]) -> NDArray[np.float64]:
    """Overlaps (N, M) of boxes (N, 4) and (M, 4)."""
    return box_iou(np.asarray(boxes1, np.float64), np.asarray(boxes2, np.float64))


def compute_overlaps_masks(masks1: NDArray[Any], masks2: NDArray[Any]) -> NDArray[np.float64]:
    """Overlaps (N, M) of masks (H, W, N) and (H, W, M); values above 0.5 are inside."""
    first, second = (
        np.asarray(masks > 0.5, np.float64).reshape(masks.shape[0] * masks.shape[1], masks.shape[2])
        for masks in (masks1, masks2)
    )
    shared = first.T @ second
    union = first.sum(axis=0)[:, None] + second.sum(axis=0)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def non_max_suppression(boxes: NDArray[Any], scores: NDArray[Any], threshold: float) -> NDArray[np.int32]:
    """Indices of the boxes (N, 4) that no better one overlaps by more than the threshold, best first."""
    order, kept = np.argsort(scores)[::-1], []
    overlaps = compute_overlaps(boxes, boxes)
    while len(order):
        kept.append(order[0])
        order = order[1:][overlaps[order[0], order[1:]] <= threshold]
    return np.array(kept, np.int32)


def resize_image(
    image: NDArray[np.uint8],
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
) -> tuple[NDArray[np.uint8], Window, float, Padding, None]:
    """An image uint8 (H, W, 3) in a square of `max_dim`, the window that it takes there, scale, padding and no crop.

    mode: "square", or "none" for the image as it is. Raises ConfigError for other modes and without `max_dim`.
    """
    height, width = image.shape[:2]
    if mode == "none":
        return image, (0, 0, height, width), 1.0, [(0, 0), (0, 0), (0, 0)], None
    if mode != "square" or not max_dim:
        raise ConfigError(f"resize_image(mode={mode!r}, max_dim={max_dim}): only a square of max_dim is supported")
    scale = max(1.0, (min_dim or 0) / min(height, width), min_scale or 0.0)
    if round(max(height, width) * scale) > max_dim:
        scale = max_dim / max(height, width)
    rule = Rule("centred", min_side=min_dim or 0, min_scale=min_scale or 0.0)
    resized, where = letterbox(np.ascontiguousarray(image), (max_dim, max_dim), (0, 0, 0), rule=rule)
    (top, left), (content_h, content_w) = where.offset, where.content_size
    window = (top, left, top + content_h, left + content_w)
    padding = [(top, max_dim - window[2]), (left, max_dim - window[3]), (0, 0)]
    return resized, window, scale, padding, None


def resize_mask(mask: NDArray[Any], scale: float, padding: Padding, crop: None = None) -> NDArray[Any]:
    """Masks (H, W, N) with the scale and the padding that `resize_image` gave."""
    rows, columns = (nearest(side, round(side * scale)) for side in mask.shape[:2])
    return np.pad(mask[rows][:, columns], padding)


def minimize_mask(bbox: NDArray[Any], mask: NDArray[Any], mini_shape: Sequence[int]) -> NDArray[np.bool_]:
    """Masks (H, W, N) cut to their boxes (N, 4) and resized to `mini_shape`."""
    small = np.zeros((*mini_shape, mask.shape[-1]), bool)
    for number, (y1, x1, y2, x2) in enumerate(np.asarray(bbox, int)):
        crop = mask[y1:y2, x1:x2, number].astype(np.float32)
        if not crop.size:
            raise PumpsegError(f"the box {y1}, {x1}, {y2}, {x2} of mask {number} is empty: leave out empty masks")
        size = (int(mini_shape[1]), int(mini_shape[0]))
        small[..., number] = cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR) > 0.5
    return small


def expand_mask(bbox: NDArray[Any], mini_mask: NDArray[Any], image_shape: Sequence[int]) -> NDArray[np.bool_]:
    """Masks (H, W, N) of an image of `image_shape` from what `minimize_mask` made of them."""
    mask = np.zeros((*image_shape[:2], mini_mask.shape[-1]), bool)
    for number, (y1, x1, y2, x2) in enumerate(np.asarray(bbox, int)):
        crop = mini_mask[..., number].astype(np.float32)
        mask[y1:y2, x1:x2, number] = (
            cv2.resize(crop, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_LINEAR) > 0.5
        )
    return mask


def compute_matches(
    gt_boxes: NDArray[Any],
    gt_class_ids: NDArray[Any],
    gt_masks: NDArray[Any],
    pred_boxes: NDArray[Any],
    pred_class_ids: NDArray[Any],
    pred_scores: NDArray[Any],
    pred_masks: NDArray[Any],
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs predictions, best score first, with the truth of their class that they overlap most.

    Returns the prediction of each truth (-1 for none), the truth of each prediction by falling score (-1 for none), and
    the overlaps of the masks (predictions, truth). Rows of zeros that fill up are left out.
    """
    truths = int(np.asarray(gt_boxes).any(axis=1).sum())
    count = int(np.asarray(pred_boxes).any(axis=1).sum())
    order = np.argsort(pred_scores[:count])[::-1]
    overlaps = compute_overlaps_masks(pred_masks[..., order], gt_masks[..., :truths])
    gt_match, pred_match = np.full(truths, -1.0), np.full(count, -1.0)
    for place, number in enumerate(order):
        for truth in np.argsort(overlaps[place])[::-1]:
            if overlaps[place, truth] < max(iou_threshold, score_threshold):
                break
            if gt_match[truth] < 0 and pred_class_ids[number] == gt_class_ids[truth]:
                gt_match[truth], pred_match[place] = place, truth
                break
    return gt_match, pred_match, overlaps


def compute_ap(
    gt_boxes: NDArray[Any],
    gt_class_ids: NDArray[Any],
    gt_masks: NDArray[Any],
    pred_boxes: NDArray[Any],
    pred_class_ids: NDArray[Any],
    pred_scores: NDArray[Any],
    pred_masks: NDArray[Any],
    iou_threshold: float = 0.5,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """AP of one image at an overlap (PASCAL VOC's area under the curve), precisions, recalls and mask overlaps."""
    arguments = (gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores, pred_masks)
    gt_match, pred_match, overlaps = compute_matches(*arguments, iou_threshold)
    hits = np.cumsum(pred_match > -1)
    precisions = np.concatenate([[0], hits / (np.arange(len(hits)) + 1), [0]])
    recalls = np.concatenate([[0], hits / max(len(gt_match), 1), [1]])
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(np.sum(np.diff(recalls) * precisions[1:])), precisions, recalls, overlaps


def compute_ap_range(
    gt_box: NDArray[Any],
    gt_class_id: NDArray[Any],
    gt_mask: NDArray[Any],
    pred_box: NDArray[Any],
    pred_class_id: NDArray[Any],
    pred_score: NDArray[Any],
    pred_mask: NDArray[Any],
    iou_thresholds: Iterable[float] | None = None,
    verbose: int = 1,
) -> float:
    """Mean AP over a range of overlaps, by default 0.5 to 0.95."""
    thresholds = np.arange(0.5, 1.0, 0.05) if iou_thresholds is None else np.array(list(iou_thresholds))
    aps = []
    for threshold in thresholds:
        arguments = (gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score, pred_mask)
        aps.append(compute_ap(*arguments, iou_threshold=threshold)[0])
        if verbose:
            print(f"AP @{threshold:.2f}:\t {aps[-1]:.3f}")
    if verbose:
        print(f"AP @{thresholds[0]:.2f}-{thresholds[-1]:.2f}:\t {np.mean(aps):.3f}")
    return float(np.mean(aps))


def compute_recall(pred_boxes: NDArray[Any], gt_boxes: NDArray[Any], iou: float) -> tuple[float, NDArray[np.int64]]:
    """The share of the true boxes that some prediction overlaps, and the indices of the predictions that do."""
    overlaps = compute_overlaps(pred_boxes, gt_boxes)
    positive = np.flatnonzero(overlaps.max(axis=1, initial=0) >= iou)
    matched = set(overlaps[positive].argmax(axis=1).tolist()) if len(positive) else set()
    return len(matched) / max(len(gt_boxes), 1), positive


def download_trained_weights(coco_model_path: str | Path, verbose: int = 1, url: str = COCO_MODEL_URL) -> None:
    """Downloads Matterport's weights of COCO. Raises PumpsegError if that fails."""
    if verbose:
        print(f"downloading {redacted(url)} to {coco_model_path} ...")
    download(url, Path(coco_model_path))


def download(url: str, path: Path) -> None:
    """Writes what a URL gives to a file, under another name until it is complete. Raises PumpsegError."""
    try:
        response = urllib.request.urlopen(url)
    except (OSError, ValueError) as error:
        raise PumpsegError(f"{redacted(url)} cannot be downloaded: {redacted_text(first_line(error))}") from None
    with contextlib.closing(response), complete_file(path) as partial, partial.open("wb") as file:
        shutil.copyfileobj(response, file)
