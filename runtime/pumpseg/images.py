"""Images: what users give as one, and files read and written with OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import complete_file
from pumpseg.errors import SinkError, SourceError
from pumpseg.image_header import image_size
from pumpseg.opencv import cv2


class PilImage(Protocol):
    """What is used of a `PIL.Image.Image`."""

    def convert(self, mode: str) -> Any: ...


Image: TypeAlias = NDArray[Any] | str | Path | PilImage
"""A BGR array, uint8 (H, W, 3), the path of an image file, or a PIL image."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 1 << 28
"""Of an image that is read from a file: 16384x16384, which take 0.8 GB."""
MAX_FILE_BYTES = 1 << 31
_JPEG_QUALITY = 92


def as_frame(image: Image) -> NDArray[np.uint8]:
    """An image as a frame, uint8 BGR (H, W, 3); an array as it is.

    The orientation tag of a file is honoured, that of a PIL image is not. Raises ValueError for another array or value,
    SourceError for a file that cannot be read.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if not isinstance(image, np.ndarray) and hasattr(image, "convert"):
        image = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    return check_frame(image)


def check_frame(frame: object) -> NDArray[np.uint8]:
    """The frame itself. Raises ValueError, saying what to do, unless it is uint8 BGR (H, W, 3) and not empty."""
    if not isinstance(frame, np.ndarray):
        reason = ": was the image read at all?" if frame is None else ""
        raise ValueError(f"a frame must be a NumPy array, got {type(frame).__name__}{reason}")
    if frame.dtype != np.uint8:
        raise ValueError(f"a frame must be uint8, got {frame.dtype}: scale it to 0..255 and use astype(np.uint8)")
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        raise ValueError(f"a frame must be BGR, got grey {frame.shape}: cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)")
    if frame.ndim == 3 and frame.shape[2] == 4:
        raise ValueError(f"a frame must be BGR, got BGRA {frame.shape}: cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a frame must have the shape (H, W, 3), got {frame.shape}")
    if frame.size == 0:
        raise ValueError(f"a frame must not be empty, got {frame.shape}")
    return frame


def read_image(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """An image as uint8 BGR (H, W, 3). upright: turned as its orientation tag says, else as it is stored.

    Raises SourceError if it cannot be read or decoded, or has more than MAX_PIXELS or MAX_FILE_BYTES.
    """
    data = read_image_file(path)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    encoded = np.frombuffer(data, np.uint8)
    size = image_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise SourceError(f"{path} is too large: {size[0]}x{size[1]} pixels, and {MAX_PIXELS:,} are the limit")
    try:
        image = cv2.imdecode(encoded, flags) if len(encoded) else None
    except cv2.error:
        # OpenCV raises for some damage, such as a header that claims more pixels than it decodes.
        image = None
    if image is None:
        raise SourceError(f"{path} is damaged, or not an image of a kind that OpenCV reads")
    return image  # type: ignore[return-value]


def read_image_file(path: Path) -> bytes:
    """What an image file holds. Raises SourceError if it cannot be read, or has more than MAX_FILE_BYTES."""
    try:
        if path.exists() and not path.is_file():
            raise SourceError(f"{path} is not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SourceError(f"{path} is too large: an image file has at most {MAX_FILE_BYTES >> 30} GiB")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def write_image(target: Path, image: NDArray[np.uint8], *, sync: bool = True) -> None:
    """Write an image, uint8 BGR or BGRA, in the format of the suffix; it appears when complete. Raises SinkError.

    sync: see `PartialFile.complete`.
    """
    data = encode_image(image, target)
    with complete_file(target, sync=sync) as path:
        path.write_bytes(data)


def encode_image(image: NDArray[np.uint8], target: Path) -> bytes:
    """An image, uint8 BGR or BGRA, in the format of the target's suffix. Raises SinkError if OpenCV cannot."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if target.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        encoded, data = cv2.imencode(target.suffix, image, options)
    except cv2.error:
        encoded = False
    if not encoded:
        raise SinkError(f"cannot encode {image.shape[1]}x{image.shape[0]} pixels as {target}")
    return data.tobytes()


def opencv_text(text: str) -> str:
    """Text as OpenCV takes it: a lone surrogate, as names that are not UTF-8 have, would end the process."""
    return text.encode("utf-8", "replace").decode("utf-8")


def image_name(path: Path) -> str:
    """The name of an image that is made of another: the same, with .png behind a suffix that is not written."""
    return path.name if path.suffix.lower() in IMAGE_SUFFIXES else f"{path.name}.png"


def check_image_format(target: Path) -> None:
    """Raise SinkError unless OpenCV writes images of this suffix."""
    # Only the suffix is tested: OpenCV ends the process at names that are not UTF-8.
    if not target.suffix or not cv2.haveImageWriter(f"image{target.suffix}"):
        raise SinkError(
            f"cannot write {target}: {target.suffix or 'no suffix'} is not an image format that OpenCV writes; "
            "try .png, .jpg or .webp"
        )
