"""Annotated images and frames, and crops of instances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pumpseg.atomic_file import check_writable, sync_tree
from pumpseg.errors import SinkError
from pumpseg.images import check_image_format, image_name, write_image
from pumpseg.video.result import Result, Sink


class ImageSink(Sink):
    """One annotated image, in the format of its suffix. Raises SinkError if OpenCV does not write that format."""

    path: Path

    def __init__(self, target: Path) -> None:
        check_image_format(target)
        check_writable(target)
        self.path = target

    def write(self, result: Result) -> None:
        write_image(self.path, result.annotated)
        self.files = 1


class _FolderSink(Sink):
    """Writes complete files into a folder, which is made if need be and removed again if it stays empty.

    The files survive a power cut from `complete` on: syncing each alone would take longer than writing it.
    """

    path: Path

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._made = not folder.exists()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the folder {folder}: {error.strerror}") from None

    def complete(self, *, interrupted: bool = False) -> None:
        try:
            sync_tree(self.path)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}") from None

    def discard(self) -> None:
        if self._made and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


class ImageFolderSink(_FolderSink):
    """One annotated image for each input image, under its name in a folder."""

    def __init__(self, inputs: tuple[Path, ...], folder: Path) -> None:
        self._outputs = image_outputs(inputs, folder)
        super().__init__(folder)

    def write(self, result: Result) -> None:
        write_image(self._outputs[result.source], result.annotated, sync=False)
        self.files += 1


class FrameFolderSink(_FolderSink):
    """Every annotated frame of a video or camera as a JPEG in a folder: 000000.jpg, 000001.jpg, ...

    Raises SinkError for a folder that already has such files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        stale = next(folder.glob("[0-9]*.jpg"), None)
        if stale is not None:
            raise SinkError(f"{folder} already has frames ({stale.name}): name another folder, or empty it")

    def write(self, result: Result) -> None:
        write_image(self.path / f"{result.index:06}.jpg", result.annotated, sync=False)
        self.files += 1


class CropSink(_FolderSink):
    """Every instance as a transparent PNG of the size of its mask: NAME-FRAME-NUMBER.png, best score first.

    Pixels outside the mask keep their colour and are fully transparent. Names of an image's crops have no FRAME.
    name: of a source without inputs. Raises SinkError for two images whose crops would have the same names, and for
    a folder that already has crops of these names: the runs could not be told apart.
    """

    def __init__(self, folder: Path, inputs: Sequence[Path] = (), *, name: str = "", of_video: bool) -> None:
        owners: dict[str, Path] = {}
        for path in inputs:
            other = owners.setdefault(_crop_name(str(path)), path)
            if other is not path:
                raise SinkError(f"crops of {other} and {path} would have the same names: use --save-dir")
        super().__init__(folder)
        self._of_video = of_video
        names = owners.keys() or {_crop_name(name)}
        crop = re.compile(r"(.+)-\d{6,}-\d{2,}\.png" if of_video else r"(.+)-\d{2,}\.png")
        for path in folder.iterdir():
            match = crop.fullmatch(path.name)
            if match and match[1] in names:
                raise SinkError(f"{folder} already has such crops ({path.name}): name another folder, or empty it")

    def write(self, result: Result) -> None:
        name = _crop_name(result.source)
        if self._of_video:
            name = f"{name}-{result.index:06}"
        for number, crop in enumerate(result.instances.crop_masks):
            if not crop.mask.any():
                continue
            height, width = crop.mask.shape
            image = np.empty((height, width, 4), np.uint8)
            image[..., :3] = result.frame[crop.y : crop.y + height, crop.x : crop.x + width]
            image[..., 3] = crop.mask * np.uint8(255)
            write_image(self.path / f"{name}-{number:02}.png", image, sync=False)
            self.files += 1


def image_outputs(inputs: tuple[Path, ...], folder: Path) -> dict[str, Path]:
    """The output file of every input image, by the input's path."""
    return {str(path): folder / image_name(path) for path in inputs}


def _crop_name(source: str) -> str:
    # A camera's name may have characters that no file name may have.
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in Path(source).stem) or "frame"
