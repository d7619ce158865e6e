"""Damaged images and videos, each alone and in a batch next to one that is intact."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from commands import Case, WarmCommands, emptied, left_hidden
from damage import damage_bytes

from pumpseg.video.sources.open import DEMO_CLIP

SIZE, FRAMES = (96, 128), 8  # h, w
# Suffix, codec, pixel format, and whether it is the only film that libav writes with it.
_VIDEOS = {
    "h264.mp4": ("libx264", "yuv420p", {}),
    "fragmented.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", {}),
    "h264.mkv": ("libx264", "yuv420p", {}),
    "vp8.webm": ("libvpx", "yuv420p", {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
    "raw.mjpeg": ("mjpeg", "yuvj420p", {}),
}
_IMAGES = ("jpg", "png", "webp", "bmp", "tif")


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` cases, all formats in turn."""
    intact = write_media(work / "intact")
    good = work / "good.jpg"
    good.write_bytes(intact["photo.jpg"])
    with emptied(work / "reference") as folder:
        warm.run("pumpseg-video", _words([good], "--save-dir", "out", "--json"), folder)
        expected = _results(folder / "out", "good.jpg")
    assert expected, "the intact photo has no result"
    for number in range(count):
        name = list(intact)[number % len(intact)]
        damaged, how = damage_bytes(intact[name], rng)
        with emptied(work / f"case-{number}") as folder:
            path = folder / name
            path.write_bytes(damaged)
            if number // len(intact) % 2:
                yield _alone(warm, folder, path, how)
            else:
                yield _next_to(warm, folder, path, good, how, expected)


def _words(sources: list[Path], *more: str) -> list[str]:
    threads = ("--threads", "1", "--provider", "cpu", "--no-show", "--model", "fast-int8")
    return [*map(str, sources), *more, *threads]


def _alone(warm: WarmCommands, folder: Path, path: Path, how: str) -> Case:
    suffix = path.suffix if path.suffix[1:] in _IMAGES else ".mp4"
    ended = warm.run(
        "pumpseg-video", _words([path], "--save", f"out{suffix}", "--json", "out.jsonl", "--track"), folder
    )
    problems = ended.problems({0, 2})
    made = [folder / f"out{suffix}", folder / "out.jsonl"]
    # A film that is damaged midway ends with 2 as well, and says that its beginning is kept.
    if ended.code == 0 or "; saved: " in ended.errors:
        problems += [f"{path.name} is missing" for path in made if not path.is_file()]
        problems += _json_problems(made[1])
        problems += _media_problems(made[0])
    elif any(output.exists() for output in made):
        problems.append("an output of a failed run")
    return Case(path.name, how, ended, problems + left_hidden(folder), folder)


def _next_to(warm: WarmCommands, folder: Path, path: Path, good: Path, how: str, expected: dict[str, bytes]) -> Case:
    ended = warm.run("pumpseg-video", _words([path, good], "--save-dir", "out", "--json", "--coco"), folder)
    problems = ended.problems({0, 1})
    results = _results(folder / "out", good.name)
    if {name: results.get(name) for name in expected} != expected:
        problems.append("the intact photo has another result")
    for lines in (folder / "out").glob("*.jsonl"):
        if lines.name != "manifest.jsonl":
            problems += _json_problems(lines)
    return Case(path.name, how, ended, problems + left_hidden(folder), folder)


def _results(folder: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(f"{name}*")} if folder.is_dir() else {}


def _json_problems(path: Path) -> list[str]:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} in JSON")

    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return [f"{path.name}: {error}"]
    return []


def _media_problems(path: Path) -> list[str]:
    if path.suffix != ".mp4":
        return [] if cv2.imread(str(path)) is not None else [f"{path.name} cannot be read"]
    try:
        with av.open(str(path)) as container:
            return [] if sum(1 for _ in container.decode(video=0)) else [f"{path.name} has no frame"]
    except OSError as error:
        return [f"{path.name}: {error}"]


def write_media(folder: Path) -> dict[str, bytes]:
    """Intact files of all formats in `folder`, by their names; each shows frames of the demo clip."""
    folder.mkdir()
    frames = demo_frames(FRAMES)
    for suffix in _IMAGES:
        cv2.imwrite(str(folder / f"photo.{suffix}"), frames[0])
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA) for frame in frames[:6]]
    animation.durations = np.full(6, 40, np.int32)
    for name in ("moving.webp", "moving.gif"):
        cv2.imwriteanimation(str(folder / name), animation)
    for name, (codec, pixels, options) in _VIDEOS.items():
        write_video(folder / name, frames, codec, pixels, options)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def demo_frames(count: int) -> list[np.ndarray]:
    with av.open(str(DEMO_CLIP)) as container:
        decoded = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
        return [
            cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA)
            for frame, _ in zip(decoded, range(count), strict=False)
        ]


def write_video(path: Path, frames: list[np.ndarray], codec: str, pixels: str, options: dict[str, str]) -> None:
    """uint8 BGR frames, 25 a second, a key frame every 4."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=Fraction(25), options={"g": "4"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(video.encode())
