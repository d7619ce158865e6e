"""A contact sheet: photos of a data set side by side with their masks drawn, to look through before training."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.drawing import Color, draw
from pumpseg.instances import Instances
from pumpseg.masks.paste import CellMasks
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import read_frame

_CAPTION = 22  # pixels
_GAP = 6
_PAPER, _INK = (245, 245, 245), (40, 40, 40)
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
_CELLS = 256  # a side of a drawn mask


@dataclass(frozen=True)
class Style:
    """How masks are drawn, as `pumpseg.draw` takes it."""

    color: Color = "auto"
    labels: bool = True
    masks_only: bool = False


def contact_sheet(
    labelled: LabelledSet, photos: Sequence[tuple[str, Photo]], columns: int, side: int, style: Style | None = None
) -> NDArray[np.uint8]:
    """uint8 BGR: `photos`, each with the split that it is of, at most `side` pixels a side, with masks and a caption.

    Class names are drawn where the set has several.

    Raises:
        DatasetError: a photo cannot be read.
    """
    columns = min(columns, len(photos))
    rows = -(-len(photos) // columns)
    height, width = side + _CAPTION + _GAP, side + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), _PAPER, np.uint8)
    for index, (split, photo) in enumerate(photos):
        y, x = _GAP + index // columns * height, _GAP + index % columns * width
        cell = _draw_photo(labelled, photo, side, style or Style())
        cell_h, cell_w = cell.shape[:2]
        top, left = y + (side - cell_h) // 2, x + (side - cell_w) // 2
        sheet[top : top + cell_h, left : left + cell_w] = cell
        _caption(sheet[y + side : y + side + _CAPTION, x : x + side], split, photo)
    return sheet


def _draw_photo(labelled: LabelledSet, photo: Photo, side: int, style: Style) -> NDArray[np.uint8]:
    image = read_frame(photo.path)
    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    instances, labels = _instances(labelled, photo, frame.shape[1], frame.shape[0])
    return draw(frame, instances, labels if style.labels else False, color=style.color, masks_only=style.masks_only)


def _instances(labelled: LabelledSet, photo: Photo, width: int, height: int) -> tuple[Instances, list[str]]:
    """The labels as a model would return them, in a frame of width x height, and what to write on each."""
    boxes, grids, class_ids, labels = [], [], [], []
    several = len(labelled.classes) > 1
    for annotation in photo.annotations:
        mask = annotation.mask(photo.width, photo.height)
        x, y, w, h = cv2.boundingRect(mask)
        if not w:
            continue
        crop = mask[y : y + h, x : x + w].astype(np.float32)
        method = cv2.INTER_AREA if max(w, h) > _CELLS else cv2.INTER_LINEAR
        grids.append(cv2.resize(crop, (_CELLS, _CELLS), interpolation=method))
        boxes.append([x * width / photo.width, y * height / photo.height])
        boxes[-1] += [(x + w) * width / photo.width, (y + h) * height / photo.height]
        class_ids.append(annotation.class_id - 1)
        name = labelled.name_of(annotation) if several else ""
        labels.append(f"{name} crowd".strip() if annotation.crowd else name)
    if not boxes:
        return Instances.empty((height, width), labelled.classes), []
    instances = Instances(
        boxes=np.array(boxes, np.float32),
        scores=np.ones(len(boxes), np.float32),
        class_ids=np.array(class_ids, np.int64),
        cells=CellMasks(np.stack(grids), np.array(boxes, np.float32)),
        frame_size=(height, width),
        class_names=labelled.classes,
    )
    return instances, labels


def _caption(area: NDArray[np.uint8], split: str, photo: Photo) -> None:
    crowds = sum(annotation.crowd for annotation in photo.annotations)
    counts = f"{len(photo.annotations) - crowds}" + (f"+{crowds}c" if crowds else "")
    text = _drawable(f"{split}/{photo.path.name}")
    # The end of a name says more than its beginning.
    shown = text
    while _text_width(f"{shown} {counts}") > area.shape[1] and len(text) > 1:
        text = text[1:]
        shown = f"...{text}"
    cv2.putText(area, f"{shown} {counts}", (0, 15), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]


def _drawable(text: str) -> str:
    """The text as far as OpenCV can draw it: from version 5 on, most scripts; ASCII before."""
    code = "utf-8" if int(cv2.__version__.partition(".")[0]) >= 5 else "ascii"
    return text.encode(code, "replace").decode(code)
