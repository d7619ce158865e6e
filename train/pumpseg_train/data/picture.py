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
_DAMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
    """
    if not content:
        raise DatasetError(f"{name} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.draft("L" if image.mode == "L" else "RGB", image.size)
            image.load()
    except (*_DAMAGE, EOFError, Image.DecompressionBombWarning) as error:
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
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except FileNotFoundError:
        raise DatasetError(f"the image {path} does not exist") from None
    except _DAMAGE:
        raise DatasetError(f"{path} is not a readable image") from None
    if orientation not in range(1, 9):
        orientation = 1
    return (height, width, orientation) if orientation >= 5 else (width, height, orientation)
