"""Measures id switches and the count of distinct instances of `--track` on a clip with known truth.

    python benchmarks/experiments/tracking.py  # renders a clip first, which takes minutes
    python benchmarks/experiments/tracking.py patch.mp4 --work kept  # a video of yours; the rendered clip is kept

The clip is the scenario "crossing" of `pumpseg-data synth`: pumpkins that meet, overtake and hide each other, leave the
picture and enter where others left it. Masks that share half of their union match. The figures are those of CLEAR
MOT, IDF1 and HOTA, by the package trackers. Exits with 1 if the count is not exact or there are more than 2 switches
in 100 object-seconds. For a video without truth only the count is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from trackers.eval import compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

from pumpseg import Instances, Segmenter
from pumpseg.atomic_file import write_json
from pumpseg.cli.arguments import path, positive, seed, share
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.instances import UNCONFIRMED
from pumpseg.video import Tracker, VideoSource, stream
from pumpseg_train.progress import StderrProgress
from pumpseg_train.synth.clip import write_clip
from pumpseg_train.synth.scene import SMALLEST_AREA

FPS = 24
MAX_SWITCHES = 2.0  # in 100 object-seconds


@dataclass(frozen=True)
class Seen:
    """What is in one frame: ids int64 (N,), and the mask of each as COCO RLE."""

    ids: np.ndarray
    masks: list[Any]

    @classmethod
    def of(cls, instances: Instances) -> Seen:
        assert instances.track_ids is not None
        known = instances[instances.track_ids != UNCONFIRMED]
        assert known.track_ids is not None
        return cls(known.track_ids, known.to_rle())


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=path, help="also count the distinct instances of this one")
    parser.add_argument("--model")
    parser.add_argument("--threshold", type=share, default=0.5)
    parser.add_argument("--seconds", type=positive, default=40.0, help="of the clip")
    parser.add_argument("--seed", type=seed, default=0, help="of the clip")
    parser.add_argument("--work", type=path, metavar="DIR", help="keep the clip here, and reuse it")
    parser.add_argument("--json", type=path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> int:
    segmenter = Segmenter(
        arguments.model, provider="cpu", threads=1, threshold=arguments.threshold, allow_spinning=False
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        clip = folder / f"crossing-{arguments.seed}-{arguments.seconds:g}s.mp4"
        truth = clip.with_suffix(".jsonl")
        if not (clip.is_file() and truth.is_file()):
            write_clip(
                clip,
                seconds=arguments.seconds,
                fps=FPS,
                seed=arguments.seed,
                scenario="crossing",
                truth=truth,
                progress=StderrProgress(),
            )
        found, count = followed(clip, segmenter)
        figures = {**scored(read_truth(truth), found), "count": count}
    print(
        f"{clip.name}: {figures['count']} of {figures['true_count']} distinct, {figures['switches']} id switches in "
        f"{figures['object_seconds']:.0f} object-seconds ({figures['switches_per_100']:.1f} in 100), "
        f"IDF1 {figures['idf1']:.3f}, HOTA {figures['hota']:.3f}, MOTA {figures['mota']:.3f}, "
        f"recall {figures['recall']:.3f}"
    )
    if arguments.video is not None:
        _, count = followed(arguments.video, segmenter)
        figures["video"] = {"name": arguments.video.name, "count": count}
        print(f"{arguments.video.name}: {count} distinct")
    if arguments.json is not None:
        write_json(arguments.json, figures)
    exact = figures["count"] == figures["true_count"]
    return 0 if exact and figures["switches_per_100"] <= MAX_SWITCHES else 1


def followed(clip: Path, segmenter: Segmenter) -> tuple[list[Seen], int]:
    """The tracks in every frame of a video, and how many distinct instances were counted."""
    source = VideoSource(clip)
    assert source.timing is not None
    tracker = Tracker(float(source.timing.rate))
    return [Seen.of(result.instances) for result in stream(source, segmenter.infer, tracker=tracker)], tracker.count


def read_truth(file: Path) -> list[Seen]:
    """The truth of a clip of `write_clip`, one frame per line, without objects of which only a few pixels show."""
    frames = []
    for line in file.read_text(encoding="utf-8").splitlines():
        seen = [one for one in json.loads(line)["instances"] if one["area"] >= SMALLEST_AREA]
        frames.append(Seen(np.array([one["id"] for one in seen], np.int64), [one["segmentation"] for one in seen]))
    return frames


def scored(truth: Sequence[Seen], found: Sequence[Seen], fps: float = FPS) -> dict[str, Any]:
    """How well the tracked ids follow those of the truth, frame by frame."""
    true_ids, ids = [frame.ids for frame in truth], [frame.ids for frame in found]
    overlaps = [mask_iou(true, seen) for true, seen in zip(truth, found, strict=True)]
    clear = compute_clear_metrics(true_ids, ids, overlaps)
    object_seconds = sum(len(frame) for frame in true_ids) / fps
    return {
        "true_count": len(np.unique(np.concatenate(true_ids))),
        "switches": int(clear["IDSW"]),
        "object_seconds": object_seconds,
        "switches_per_100": 100 * clear["IDSW"] / object_seconds,
        "recall": clear["CLR_Re"],
        "mota": clear["MOTA"],
        "idf1": compute_identity_metrics(true_ids, ids, overlaps)["IDF1"],
        "hota": compute_hota_metrics(true_ids, ids, overlaps)["HOTA"],
    }


def mask_iou(truth: Seen, found: Seen) -> np.ndarray:
    """float64 (true, found)."""
    if not (truth.masks and found.masks):
        return np.zeros((len(truth.masks), len(found.masks)))
    return coco_mask.iou(found.masks, truth.masks, [0] * len(truth.masks)).T


if __name__ == "__main__":
    sys.exit(main())
