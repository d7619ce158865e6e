"""Photos on disk: listed, read, and probed to the last pixel, since OpenCV fills the missing part with grey."""

import functools
import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from pumpseg.errors import DatasetError, SourceError
from pumpseg.images import IMAGE_SUFFIXES, read_image
from pumpseg_train.dataset.input_file import read_bytes

FINGERPRINT_BITS = 256
_DAMAGE = (OSError, ValueError, SyntaxError)
# Pillow warns from half of what it refuses: sound photos of a hundred megapixels are read like any others. Set once,
# since warnings.catch_warnings does not hold where several threads read.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PhotoTooLargeError(DatasetError):
    """An image of more pixels than Pillow decodes: 2 x PIL.Image.MAX_IMAGE_PIXELS, 179 million."""


@dataclass(frozen=True)
class PhotoInfo:
    """What an image file holds.

    width, height: in pixels, upright. orientation: EXIF, 1..8, how the stored pixels have to be turned.
    fingerprint: perceptual hash (pHash: signs of the low frequencies of a cosine transform) of the upright
        picture, FINGERPRINT_BITS long; near-duplicates differ in few bits. None unless asked for.
    """

    width: int
    height: int
    orientation: int
    sha256: str
    fingerprint: int | None = None

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels as stored in the file."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def list_images(folder: Path) -> tuple[Path, ...]:
    """The image files below `folder`, sorted, except hidden ones such as macOS's `._a.jpg`.

    Raises:
        DatasetError: there are none.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    paths = tuple(sorted(path for path in found if not path.name.startswith(".")))
    if not paths:
        raise DatasetError(f"{folder} holds no images")
    return paths


def read_frame(path: Path) -> NDArray[np.uint8]:
    """The image as a camera would deliver it, uint8 BGR (H, W, 3), upright.

    Raises:
        DatasetError: the file is not an image that can be read.
        PhotoTooLargeError: it has too many pixels to be decoded.
    """
    size_of(path)  # OpenCV decodes a gigapixel
    try:
        return read_image(path)
    except SourceError as error:
        raise DatasetError(str(error)) from None


@functools.lru_cache(maxsize=512)
def load_image(path: Path, max_side: int | None = None) -> NDArray[np.uint8]:
    """The image, uint8 RGB (H, W, 3), upright, shrunk to at most `max_side` pixels a side. It is cached and read-only.

    Raises:
        DatasetError: the file is not an image that can be read.
    """
    image = read_frame(path)
    if max_side and max(image.shape[:2]) > max_side:
        scale = max_side / max(image.shape[:2])
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    image = np.ascontiguousarray(image[..., ::-1])
    image.setflags(write=False)
    return image


def probe(content: bytes, name: str, *, fingerprint: bool = False) -> PhotoInfo:
    """Decodes the whole image.

    Raises:
        DatasetError: it is empty, cut short, damaged or not an image; the message begins with `name`.
        PhotoTooLargeError: it has too many pixels to be decoded.
    """
    if not content:
        raise DatasetError(f"{name} is empty")
    try:
        image = Image.open(io.BytesIO(content))
        stored, orientation = _stored_size(image), _orientation(image)
        image.draft("L" if image.mode == "L" else "RGB", image.size)
        image.load()
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except (*_DAMAGE, EOFError) as error:
        # Pillow's own text names a buffer in memory, which says nothing.
        why = "it is not an image" if "cannot identify" in str(error) else str(error)
        raise DatasetError(f"{name} is damaged: {why}") from None
    bits = None
    if fingerprint:
        small = ImageOps.exif_transpose(image.convert("L").reduce(max(1, min(image.size) // 256)))
        bits = int(str(imagehash.phash(small, hash_size=16)), 16)
    return PhotoInfo(*_upright(stored, orientation), orientation, hashlib.sha256(content).hexdigest(), bits)


def probe_file(path: Path, name: str | None = None, *, fingerprint: bool = False) -> PhotoInfo:
    """`probe` of a file; `name` is what messages call it, its path by default.

    Raises:
        DatasetError: it cannot be read, or as `probe`.
    """
    return probe(read_bytes(path), name or str(path), fingerprint=fingerprint)


def size_of(path: Path) -> tuple[int, int, int]:
    """Width and height in pixels, upright, and the EXIF orientation, from the header of an image file.

    Raises:
        DatasetError: it is missing or not an image.
        PhotoTooLargeError: it has too many pixels to be decoded.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - False for names that cannot be
        why = "is not a regular file" if os.path.exists(path) else "does not exist"  # noqa: PTH110
        raise DatasetError(f"the image {path} {why}")
    try:
        with Image.open(path) as image:
            orientation = _orientation(image)
            return *_upright(_stored_size(image), orientation), orientation
    except Image.DecompressionBombError:
        raise _too_large(str(path)) from None
    except _DAMAGE:
        raise DatasetError(f"{path} cannot be read as an image") from None


def _orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before any turning. Pillow turns TIFF files itself, and reports the size after that."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= 5 else size


def _too_large(name: str) -> PhotoTooLargeError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return PhotoTooLargeError(f"{name} is too large: it has more than {limit:,} pixels, make it smaller")
