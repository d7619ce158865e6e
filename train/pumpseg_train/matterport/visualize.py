"""`mrcnn.visualize` as scripts and notebooks call it, on matplotlib: boxes are y1 x1 y2 x2, masks (H, W, N)."""

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]


def random_colors(N: int, bright: bool = True) -> list[Colour]:  # noqa: N803 - the name of mrcnn
    """Distinct colours, RGB 0..1, in random order."""
    colours = [colorsys.hsv_to_rgb(i / max(N, 1), 1, 1.0 if bright else 0.7) for i in range(N)]
    np.random.default_rng().shuffle(colours)
    return colours


def apply_mask(image: NDArray[Any], mask: NDArray[Any], color: Colour, alpha: float = 0.5) -> NDArray[Any]:
    """Blends a colour, RGB 0..1, into an image RGB 0..255 inside the mask (H, W); changes and returns the image."""
    inside = mask.astype(bool)
    image[inside] = (1 - alpha) * image[inside] + alpha * 255 * np.array(color)
    return image


def display_images(
    images: Sequence[NDArray[Any]],
    titles: Sequence[Any] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: Any = None,
) -> None:
    """Shows images in a grid."""
    import matplotlib.pyplot as plt

    rows = -(-len(images) // cols)
    plt.figure(figsize=(14, 14 * rows // cols or 1))
    for number, (image, title) in enumerate(zip(images, titles or [""] * len(images), strict=True), 1):
        plt.subplot(rows, cols, number)
        plt.title(title, fontsize=9)
        plt.axis("off")
        plt.imshow(image.astype(np.uint8), cmap=cmap, norm=norm, interpolation=interpolation)
    plt.show()


def display_instances(
    image: NDArray[np.uint8],
    boxes: NDArray[Any],
    masks: NDArray[Any],
    class_ids: NDArray[Any],
    class_names: Sequence[str],
    scores: NDArray[Any] | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: Any = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Sequence[Colour] | None = None,
    captions: Sequence[str | None] | None = None,
) -> None:
    """Shows an image RGB with boxes, masks and captions; with `ax` it is drawn there, to be shown later."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Polygon, Rectangle

    count = len(boxes)
    if not count:
        print("no instances to display")
    own = ax is None
    if ax is None:
        ax = plt.subplots(1, figsize=figsize)[1]
    ax.set_ylim(image.shape[0] + 10, -10)
    ax.set_xlim(-10, image.shape[1] + 10)
    ax.axis("off")
    ax.set_title(title)
    shown = image.astype(np.uint32)
    for number, colour in enumerate(colors or random_colors(count)):
        y1, x1, y2, x2 = boxes[number]
        if not np.any(boxes[number]):
            continue
        if show_bbox:
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=2, alpha=0.7, ls="dashed", ec=colour, fc="none")
            ax.add_patch(frame)
        caption = captions[number] if captions else class_names[class_ids[number]]
        if not captions and scores is not None:
            caption = f"{caption} {scores[number]:.3f}"
        ax.text(x1, y1 + 8, caption or "", color="w", size=11, backgroundcolor="none")
        mask = masks[..., number]
        if show_mask:
            shown = apply_mask(shown, mask, colour)
        # A frame of zeros closes outlines at the border.
        padded = np.pad(mask.astype(np.uint8), 1)
        for outline in cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]:
            ax.add_patch(Polygon(outline.reshape(-1, 2) - 1, facecolor="none", edgecolor=colour))
    ax.imshow(shown.astype(np.uint8))
    if own:
        plt.show()


def display_top_masks(
    image: NDArray[np.uint8], mask: NDArray[Any], class_ids: NDArray[Any], class_names: Sequence[str], limit: int = 4
) -> None:
    """Shows an image RGB and the masks of its classes with the largest areas, each class in an image of its own."""
    areas = {number: mask[..., class_ids == number].sum() for number in np.unique(class_ids[class_ids > 0])}
    largest = sorted((number for number in areas if areas[number]), key=lambda number: -areas[number])[:limit]
    images, titles = [image], [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for number in [*largest, *[None] * (limit - len(largest))]:
        layer = np.zeros(image.shape[:2], np.uint8)
        if number is not None:
            for index in np.flatnonzero(class_ids == number):
                layer[mask[..., index].astype(bool)] = index + 1
        images.append(layer)
        titles.append("-" if number is None else class_names[number])
    display_images(images, titles, cols=limit + 1, cmap="Blues_r")


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: NDArray[Any] | None = None,
    refined_boxes: NDArray[Any] | None = None,
    masks: NDArray[Any] | None = None,
    captions: Sequence[str] | None = None,
    visibilities: Sequence[int] | None = None,
    title: str = "",
    ax: Any = None,
) -> None:
    """Shows boxes on an image RGB, dotted, and the refined ones they became; visibilities: 0 grey, 1 faint, 2 full."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    wanted = boxes if boxes is not None else refined_boxes
    count = 0 if wanted is None else len(wanted)
    own = ax is None
    if ax is None:
        ax = plt.subplots(1, figsize=(12, 12))[1]
    ax.axis("off")
    ax.set_title(title)
    shown = image.astype(np.uint32)
    for number, colour in enumerate(random_colors(count)):
        visibility = 1 if visibilities is None else visibilities[number]
        edge = "gray" if visibility == 0 else colour
        alpha = 1.0 if visibility == 2 else 0.5
        for these, style in ((boxes, "dotted"), (refined_boxes, "solid")):
            if these is not None and np.any(these[number]):
                y1, x1, y2, x2 = these[number]
                frame = Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=2, alpha=alpha, ls=style, ec=edge, fc="none")
                ax.add_patch(frame)
        if captions is not None:
            y1, x1 = (refined_boxes if refined_boxes is not None else boxes)[number][:2]  # type: ignore[index]
            ax.text(x1, y1, captions[number], size=11, verticalalignment="top", color="w", backgroundcolor="none")
        if masks is not None:
            shown = apply_mask(shown, masks[..., number], colour)
    ax.imshow(shown.astype(np.uint8))
    if own:
        plt.show()


def plot_precision_recall(AP: float, precisions: NDArray[Any], recalls: NDArray[Any]) -> None:  # noqa: N803
    """Shows the curve that `utils.compute_ap` gives."""
    import matplotlib.pyplot as plt

    ax = plt.subplots(1)[1]
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set_xlim(0, 1.1)
    ax.set_ylim(0, 1.1)
    ax.plot(recalls, precisions)
    plt.show()
