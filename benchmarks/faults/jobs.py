"""The commands that are killed or run out of disk: what each reads, writes, and must have written in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from commands import Ended, Words, line, run
from media import demo_frames, write_video

CPU = ("--threads", "1", "--provider", "cpu")
_VIDEO = ("--no-show", "--model", "fast-int8", *CPU)
_TRAINING = ("--init-from", "fast", "--size", "96", "--epochs", "2", "--steps", "2", "--batch-size", "2")


@dataclass(frozen=True)
class Job:
    """A command that is run in an empty folder and writes into it.

    share: of the kills. words: what follows the name of the program; paths are absolute or in that folder.
    final: files that only a complete run has, by glob; all others may be there earlier, or differ between runs.
    """

    name: str
    program: str
    share: float
    words: Callable[[Path], Words]
    final: Sequence[str] = ("**/*",)
    slow: float = 1.0
    # Whether the command refuses to do again what is complete.
    once: bool = False

    def command(self, inputs: Path) -> list[str]:
        return line(self.program, *self.words(inputs))

    def run(self, inputs: Path, folder: Path) -> Ended:
        return run(self.command(inputs), folder, slow=self.slow)

    def results(self, folder: Path) -> dict[str, str]:
        """The digest of every file that must be as in an undisturbed run, by its name."""
        found = {path for pattern in self.final for path in folder.glob(pattern) if path.is_file()}
        return {str(path.relative_to(folder)): _digest(path) for path in sorted(found) if not _hidden(path, folder)}

    def wrong(self, folder: Path, expected: Mapping[str, str]) -> list[str]:
        """What is there but differs from an undisturbed run."""
        found = self.results(folder)
        return [f"{name} is not whole" for name, digest in found.items() if expected.get(name) != digest]


JOBS = (
    Job(
        "pumpseg-video, file",
        "pumpseg-video",
        0.22,
        lambda inputs: [
            *(inputs / "clip.mp4", "--save", "out.mp4", "--json", "out.jsonl", "--coco", "out.json"),
            *_VIDEO,
        ],
    ),
    Job(
        "pumpseg-video, batch",
        "pumpseg-video",
        0.18,
        lambda inputs: [inputs / "media", "--save-dir", "out", "--json", "--coco", "--save-crops", *_VIDEO],
        final=("out/*.mp4", "out/*.jpg", "out/*.json", "out/*.mp4.jsonl", "out/*.jpg.jsonl", "out/*.crops/*"),
    ),
    Job(
        "pumpseg-data synth",
        "pumpseg-data",
        0.06,
        lambda inputs: ["synth", "--out", "out", "--count", "6", "--val-count", "2", "--size", "128x96"],
        once=True,
    ),
    Job(
        "pumpseg-data convert",
        "pumpseg-data",
        0.18,
        lambda inputs: ["convert", inputs / "set", "--to", "masks", "--out", "out"],
        once=True,
    ),
    Job(
        "pumpseg-data split",
        "pumpseg-data",
        0.16,
        lambda inputs: ["split", inputs / "set", "--out", "out", "--test", "0.2"],
        once=True,
    ),
    Job(
        "pumpseg-eval",
        "pumpseg-eval",
        0.04,
        lambda inputs: ["fast", inputs / "set", "--json", "out.json", "--report", "report", "--threads", "1"],
    ),
    Job(
        "pumpseg-train",
        "pumpseg-train",
        0.02,
        lambda inputs: [inputs / "set", "--out", "run", *_TRAINING],
        final=("run/best.weights.h5", "run/best.json", "run/finished"),
        slow=5.0,
        once=True,
    ),
    Job(
        "pumpseg-export",
        "pumpseg-export",
        0.02,
        lambda inputs: [inputs / "run", "-o", "model.onnx"],
        slow=5.0,
    ),
)


def make_inputs(folder: Path) -> Path:
    """What the jobs read. Raises RuntimeError if a command that makes it fails."""
    folder.mkdir()
    frames = demo_frames(24)
    write_video(folder / "clip.mp4", frames, "libx264", "yuv420p", {})
    (folder / "media").mkdir()
    for number in range(3):
        write_video(folder / "media" / f"{number}.mp4", frames[8 * number :][:8], "libx264", "yuv420p", {})
        cv2.imwrite(str(folder / "media" / f"{number}.jpg"), frames[8 * number])
    for command in (
        line("pumpseg-data", "synth", "--out", "set", "--count", "20", "--val-count", "5", "--size", "128x96"),
        line("pumpseg-train", folder / "set", "--out", "run", *_TRAINING),
    ):
        ended = run(command, folder, slow=10.0)
        if ended.code:
            raise RuntimeError(f"the inputs cannot be made: {ended.errors}")
    return folder


def undisturbed(job: Job, inputs: Path, folder: Path) -> tuple[dict[str, str], float]:
    """What the job writes, and the seconds it takes. Raises RuntimeError if it fails."""
    folder.mkdir()
    ended = job.run(inputs, folder)
    if ended.code:
        raise RuntimeError(f"{job.name} fails undisturbed: {ended.errors}")
    return job.results(folder), ended.seconds


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _digest(path: Path) -> str:
    if path.name == "best.json":
        values = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps(values, sort_keys=True)
    if path.suffix == ".h5":
        return _digest_of_weights(path)
    if path.suffix == ".onnx":
        return _digest_of_graph(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of_graph(path: Path) -> str:
    """Of the operators, the constants and the metadata: tf2onnx names and orders the constants by chance."""
    import onnx

    model = onnx.load(path)
    digest = hashlib.sha256(" ".join(node.op_type for node in model.graph.node).encode())
    arrays = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    for content in sorted(repr(array.shape).encode() + array.tobytes() for array in arrays):
        digest.update(content)
    for entry in sorted(model.metadata_props, key=lambda entry: entry.key):
        digest.update(f"{entry.key}={entry.value}".encode())
    return digest.hexdigest()


def _digest_of_weights(path: Path) -> str:
    """Of the arrays: HDF5 also stores when they were written."""
    import h5py

    digest = hashlib.sha256()

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode() + item[()].tobytes())

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return digest.hexdigest()
