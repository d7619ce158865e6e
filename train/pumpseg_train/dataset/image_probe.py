"""Image files examined to the last pixel: OpenCV fills what is missing of a broken one with grey."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import imagehash
from PIL import ExifTags, Image, ImageOps

from pumpseg.errors import DatasetError

FINGERPRINT_BITS = 256
_DAMAGE = (OSError, ValueError, SyntaxError)
# Pillow warns from half of what it refuses: sound photos of a hundred megapixels are read like any others. Set once,
# since warnings.catch_warnings does not hold where several threads read.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureTooLargeError(DatasetError):
    """An image of more pixels than Pillow decodes: 2 x PIL.Image.MAX_IMAGE_PIXELS, 179 million."""


@dataclass(frozen=True)
class Picture:
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


def examine(content: bytes, name: str, *, fingerprint: bool = False) -> Picture:
    """Decodes the whole picture.

    Raises:
        DatasetError: it is empty, cut short, damaged or no picture; the message begins with `name`.
        PictureTooLargeError: it has too many pixels to be decoded.
    """
    if not content:
        raise DatasetError(f"{name} is empty")
    try:
        image = Image.open(io.BytesIO(content))
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        image.draft("L" if image.mode == "L" else "RGB", image.size)
        image.load()
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except (*_DAMAGE, EOFError) as error:
        # Pillow's own text names a buffer in memory, which says nothing.
        why = "it is no image" if "cannot identify" in str(error) else str(error)
        raise DatasetError(f"{name} is damaged: {why}") from None
    orientation = orientation if orientation in range(1, 9) else 1
    width, height = image.size
    if orientation >= 5:
        width, height = height, width
    digest = hashlib.sha256(content).hexdigest()
    bits = None
    if fingerprint:
        small = ImageOps.exif_transpose(image.convert("L").reduce(max(1, min(image.size) // 256)))
        bits = int(str(imagehash.phash(small, hash_size=16)), 16)
    return Picture(width, height, orientation, digest, bits)


def size_of(path: Path) -> tuple[int, int, int]:
    """Width and height in pixels, upright, and the EXIF orientation, from the head of an image file.

    Raises:
        DatasetError: it is missing or no image.
        PictureTooLargeError: it has too many pixels to be decoded.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except FileNotFoundError:
        raise DatasetError(f"the image {path} does not exist") from None
    except Image.DecompressionBombError:
        raise _too_large(str(path)) from None
    except _DAMAGE:
        raise DatasetError(f"{path} is not a readable image") from None
    if orientation not in range(1, 9):
        orientation = 1
    return (height, width, orientation) if orientation >= 5 else (width, height, orientation)


def _too_large(name: str) -> PictureTooLargeError:
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return PictureTooLargeError(f"{name} is too large: it has more than {most:,} pixels, make it smaller")
