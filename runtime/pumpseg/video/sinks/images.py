"""Annotated images and frames, and instances cut out of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import PartialFile
from pumpseg.errors import SinkError
from pumpseg.images import check_image_format, encode_image, write_image
from pumpseg.instances import Instances
from pumpseg.video.sources.frame_source import Frame


class ImageSink:
    """One annotated image, in the format of its suffix. Raises SinkError if OpenCV cannot write that."""

    draws = True

    def __init__(self, target: Path) -> None:
        check_image_format(target)
        self._file = PartialFile(target)
        self._written = False

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        assert drawn is not None
        data = encode_image(drawn, self._file.target)
        try:
            self._file.path.write_bytes(data)
        except OSError as error:
            raise SinkError(f"cannot write {self._file.target}: {error.strerror}") from None
        self._written = True

    def complete(self, *, interrupted: bool = False) -> None:
        if self._written:
            self._file.complete()
        else:
            self._file.discard()

    def discard(self) -> None:
        self._file.discard()


class ImageFolderSink:
    """One annotated image for each input image, under its name in a folder; complete once it is there."""

    draws = True

    def __init__(self, inputs: tuple[Path, ...], folder: Path) -> None:
        self._outputs = image_outputs(inputs, folder)
        self._folder = _Folder(folder)

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        assert drawn is not None
        write_image(self._outputs[frame.source], drawn)

    def complete(self, *, interrupted: bool = False) -> None:
        """Every image is complete already."""

    def discard(self) -> None:
        self._folder.discard()


class FrameFolderSink:
    """Every annotated frame of a video or camera as a JPEG in a folder: 000000.jpg, 000001.jpg, ..."""

    draws = True

    def __init__(self, folder: Path) -> None:
        self._folder = _Folder(folder)
        stale = next(folder.glob("[0-9]*.jpg"), None)
        if stale is not None:
            raise SinkError(f"{folder} holds frames already ({stale.name}): name another folder, or empty it")

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        assert drawn is not None
        write_image(self._folder.path / f"{frame.index:06}.jpg", drawn)

    def complete(self, *, interrupted: bool = False) -> None:
        """Every frame is complete already."""

    def discard(self) -> None:
        self._folder.discard()


class CropSink:
    """Every instance as a transparent PNG of the size of its mask: NAME-FRAME-NUMBER.png, best score first.

    Pixels outside the mask keep their colour and are fully transparent. One image's names have no FRAME.
    name: of a source without inputs. Raises SinkError for two images whose crops would have the same names, and for
    a folder that holds some of these names already: what is of which run could not be told apart.
    """

    draws = False

    def __init__(self, folder: Path, inputs: Sequence[Path] = (), *, name: str = "", of_video: bool) -> None:
        owners: dict[str, Path] = {}
        for path in inputs:
            other = owners.setdefault(_crop_name(str(path)), path)
            if other is not path:
                raise SinkError(f"crops of {other} and {path} would have the same names: use --save-dir")
        self._folder = _Folder(folder)
        self._of_video = of_video
        names = owners.keys() or {_crop_name(name)}
        crop = re.compile(r"(.+)-\d{6,}-\d{2,}\.png" if of_video else r"(.+)-\d{2,}\.png")
        for path in folder.iterdir():
            found = crop.fullmatch(path.name)
            if found and found[1] in names:
                raise SinkError(f"{folder} holds such crops already ({path.name}): name another folder, or empty it")

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        name = _crop_name(frame.source)
        if self._of_video:
            name = f"{name}-{frame.index:06}"
        for number, crop in enumerate(instances.crop_masks):
            if not crop.mask.any():
                continue
            height, width = crop.mask.shape
            picture = np.empty((height, width, 4), np.uint8)
            picture[..., :3] = frame.image[crop.y : crop.y + height, crop.x : crop.x + width]
            picture[..., 3] = crop.mask * np.uint8(255)
            write_image(self._folder.path / f"{name}-{number:02}.png", picture)

    def complete(self, *, interrupted: bool = False) -> None:
        """Every crop is complete already."""

    def discard(self) -> None:
        self._folder.discard()


class _Folder:
    """A folder that is made if need be, and taken away again if nothing came into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = not path.exists()
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the folder {path}: {error.strerror}") from None

    def discard(self) -> None:
        if self._made and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def image_outputs(inputs: tuple[Path, ...], folder: Path) -> dict[str, Path]:
    """The output file of every input image, by the input's path."""
    return {str(path): folder / path.name for path in inputs}


def _crop_name(source: str) -> str:
    # A camera's name may hold what no file name may.
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in Path(source).stem) or "frame"
