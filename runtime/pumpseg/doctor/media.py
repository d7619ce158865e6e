"""Videos, the screen and cameras."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pumpseg.doctor.finding import FAULT, NOTE, OK, Finding
from pumpseg.doctor.isolated import isolated
from pumpseg.errors import MissingPackageError

_SIDE, _FRAMES = 64, 3
_SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
_CAMERA_SECONDS = 20.0
_MAX_CAMERAS = 4  # to look for where the system does not list them


def check_codecs() -> list[Finding]:
    """Whether PyAV encodes and decodes each codec that pumpseg writes."""
    return isolated("video", f"{__name__}:try_codecs")


def try_codecs() -> list[Finding]:
    try:
        from pumpseg.video.sinks.video import CODECS
        from pumpseg.video.sources.container import import_av

        av = import_av()
    except MissingPackageError as error:
        if error.name != "av":
            return []  # OpenCV, which is reported by itself
        text, _, command = str(error).rpartition(": ")
        return [Finding("video", NOTE, f"{text}; needed for videos and network cameras", command)]
    except ImportError:
        return []
    again = f"pip install --force-reinstall --no-deps av=={av.__version__}    # the wheel from PyPI has it"
    findings = [Finding("video", OK, f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}")]
    for name, encoder in CODECS.items():
        problem = _round_trip(av, name, encoder.name)
        text = f"cannot be {problem}" if problem else f"is written ({encoder.name}) and read"
        findings.append(Finding(name, FAULT if problem else OK, text, again if problem else ""))
    return findings


def _round_trip(av: object, name: str, encoder: str) -> str:
    """What goes wrong when a few frames are encoded and decoded again; empty if nothing does."""
    import io

    import numpy as np

    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as container:  # type: ignore[attr-defined]
            video = container.add_stream(encoder, rate=25)
            video.width = video.height = _SIDE
            video.pix_fmt = "yuv420p"
            for shade in range(_FRAMES):
                picture = np.full((_SIDE, _SIDE, 3), 80 * shade, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))  # type: ignore[attr-defined]
            container.mux(video.encode())
    except Exception as error:
        return f"written: {encoder}: {error}"
    file.seek(0)
    try:
        with av.open(file) as container:  # type: ignore[attr-defined]
            decoded = sum(1 for _ in container.decode(video=0))
    except Exception as error:
        return f"read: {error}"
    return "" if decoded == _FRAMES else f"read: {decoded} of {_FRAMES} frames came back"


def check_screen() -> list[Finding]:
    return isolated("screen", f"{__name__}:try_screen")


def try_screen() -> list[Finding]:
    try:
        from pumpseg.video.viewers.window import screen_problem
    except ImportError:
        return []
    problem = screen_problem()
    if problem:
        return [Finding("screen", NOTE, f"no window: {problem}", "pumpseg-video SOURCE --serve 8000 shows a web page")]
    return [Finding("screen", OK, "windows open")]


def check_cameras() -> list[Finding]:
    """Every camera that the system lists, with the sizes that it grants."""
    found = []
    for device in _devices():
        name = device if device.startswith("/dev/") else f"webcam:{device}"
        found += isolated(name, f"{__name__}:try_camera", device, seconds=_CAMERA_SECONDS)
    return found or [Finding("cameras", NOTE, "none")]


def _devices() -> list[str]:
    if not sys.platform.startswith("linux"):
        return [str(number) for number in range(_MAX_CAMERAS)]
    return [str(path) for path in sorted(Path("/dev").glob("video*")) if _is_first(path)]


def _is_first(device: Path) -> bool:
    """Whether a device is the first of its camera; the others carry metadata."""
    try:
        return (Path("/sys/class/video4linux") / device.name / "index").read_text(encoding="ascii").strip() == "0"
    except OSError:
        return True


def try_camera(device: str) -> list[Finding]:
    if device.startswith("/dev/") and not os.access(device, os.R_OK | os.W_OK):
        mend = "sudo usermod -aG video $USER    # then log in again"
        return [Finding(device, FAULT, "this user may not open it", mend)]
    try:
        from pumpseg.errors import SourceError
        from pumpseg.video.sources.capture import CameraSettings, DeviceCapture
    except ImportError:
        return []
    camera: int | str = device if device.startswith("/dev/") else int(device)
    name = device if device.startswith("/dev/") else f"webcam:{device}"
    modes: list[str] = []
    for size in (None, *_SIZES):
        try:
            capture = DeviceCapture(camera, CameraSettings(size))
        except SourceError as error:
            # Where cameras are only tried, one that is not there is no finding.
            return [Finding(name, NOTE, str(error))] if isinstance(camera, str) else []
        mode = capture.negotiated.partition(", not all")[0]
        if size is None:
            try:
                capture.read()
            except SourceError as error:
                capture.close()
                return [
                    Finding(name, FAULT, f"opens, but delivers no picture: {error}", "unplug it and plug it in again")
                ]
        capture.close()
        if mode not in modes:
            modes.append(mode)
    return [Finding(name, OK, "; ".join(modes))]
