"""Compares Matterport's mrcnn with the matterport profile: the detections of both, and how long each takes.

    python benchmarks/peers/mrcnn_parity.py             # detections: ResNet-50 and -101, 2 and 5 classes, 256 and 1024
    python benchmarks/peers/mrcnn_parity.py --speed     # time at 1024, with oneDNN, two threads

In a clone of this repository, with `pip install -e '.[dev,matterport-reference]'` and
`pip install --no-deps 'tf-keras==2.21.*'`. mrcnn runs as in the tests (tests/mrcnn_reference), in a process of its own,
with seeded weights; they are kept in --work and reused.

For the speed both sides stay open and take turns, frame by frame, ours as `pumpseg-bench` measures it. Weights affect
the time only by the number of detections, which is the same on both sides.

"own rows" is by how many rows mrcnn differs from itself, with TensorFlow's oneDNN on and off. Rounding changes, for
example, which of two boxes of similar score is the last of its 1000 proposals, and NMS then changes the detections
around it.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import compare
import cv2
import numpy as np

from pumpseg import Segmenter
from pumpseg.atomic_file import write_text
from pumpseg.cli.command import CommandParser
from pumpseg.inference.letterbox import Rule
from pumpseg.inference.model import Model
from pumpseg.instances import Instances
from pumpseg_bench.frames import FrameFile
from pumpseg_bench.nodes import arithmetic, kernel_events
from pumpseg_bench.peak_throughput import PeakMeter
from pumpseg_bench.worker import Setup
from pumpseg_bench.worker_process import WORKER

if TYPE_CHECKING:
    from pumpseg_train.model.network import MaskRCNN

HERE = Path(__file__).resolve().parent
ORACLE = Path(__file__).parents[2] / "tests" / "mrcnn_reference" / "oracle.py"
BOX, SCORE, MASK_IOU = 1.0, 1e-3, 0.99  # by how much a detection may differ: frame pixels, probability
MAX_DIFFERING = 0.02  # share of the rows: ties and samples at the border are a matter of rounding in mrcnn itself
SMALL, LARGE = (256, 256), (1024, 800)  # IMAGE_MAX_DIM, IMAGE_MIN_DIM
THREADS = 2  # of the speed comparison
PEAK_RUNS = 5


def main() -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="compare time instead of detections")
    parser.add_argument("--photos", type=Path, nargs="+", help="the first also serves at 1024 (default: skimage's)")
    parser.add_argument("--backbones", nargs="+", default=["resnet50", "resnet101"])
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 5], help="with the background")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024], choices=[256, 1024])
    parser.add_argument("--frames", type=int, default=20, help="of the speed comparison, on each side")
    parser.add_argument("--readme", type=Path, help="file whose section about the speed is rewritten")
    parser.add_argument("--work", type=Path, help="folder for weights and results (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        photos = save_photos(arguments.photos, work)
        if arguments.speed:
            compare_speed(arguments, photos[0], work)
            return 0
        return compare_detections(arguments, photos, work)


def save_photos(paths: list[Path] | None, work: Path) -> list[Path]:
    """The photos as .npy files, uint8 RGB, so that no decoder comes between."""
    if paths:
        images = {path.stem: cv2.imread(str(path))[..., ::-1] for path in paths}
    else:
        from skimage import data

        images = {"coffee": data.coffee(), "astronaut": data.astronaut(), "chelsea": data.chelsea()}
    for name, image in images.items():
        np.save(work / f"{name}.npy", image)
    return [work / f"{name}.npy" for name in images]


def save_png(photo: Path) -> Path:
    """The photo of an .npy file as an image next to it."""
    path = photo.with_suffix(".png")
    cv2.imwrite(str(path), np.load(photo)[..., ::-1])
    return path


def run_mrcnn(
    out: Path,
    photos: list[Path],
    backbone: str,
    classes: int,
    size: tuple[int, int],
    *,
    onednn: bool,
    **options: object,
) -> None:
    """Runs the reference, which writes weights.h5 and a .npz for each photo into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    side, min_side = size
    settings = {"backbone": backbone, "classes": classes, "size": side, "min-side": min_side, **options}
    settings["confidence"] = confidence(classes)
    arguments = [item for name, value in settings.items() for item in (f"--{name}", str(value))]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(ORACLE), str(out), "--images", *map(str, photos), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mrcnn failed:\n{done.stderr[-2000:]}")


def confidence(classes: int) -> float:
    """With random weights and several classes few scores reach mrcnn's 0.7."""
    return 0.7 if classes == 2 else 0.3


def load(backbone: str, classes: int, size: tuple[int, int], weights: Path) -> "MaskRCNN":
    """The model of the profile with mrcnn's weights."""
    from pumpseg_train.matterport.weights_file import load_weights
    from pumpseg_train.model.network import build_mask_rcnn
    from pumpseg_train.model.profile import PROFILES

    side, min_side = size
    profile = dataclasses.replace(
        PROFILES[f"matterport-{backbone}"],
        input_size=(side, side),
        letterbox=Rule("centred", min_side=min_side),
        score_threshold=confidence(classes),
    )
    model = build_mask_rcnn(profile, tuple(f"class {number}" for number in range(1, classes)))
    load_weights(model, weights)
    return model


def export(model: "MaskRCNN", path: Path) -> None:
    """The model as a file, as pumpseg-export writes it, without its own comparison with Keras."""
    from pumpseg_export.assemble import assemble
    from pumpseg_export.metadata import describe, write_model

    size = model.profile.input_size
    write_model(assemble(model, size), describe(model, size), path)


def compare_detections(arguments: argparse.Namespace, photos: list[Path], work: Path) -> int:
    """Prints the table; returns 1 if a case differs by more than is allowed, and by more than mrcnn from itself."""
    from pumpseg_train.training.predictor import predictor

    print(f"{'':31}{'':7}{'mrcnn':>6}{'own':>6}{'ours':>6}{'differing':>10}{'largest difference':>20}{'mask IoU':>16}")
    print(
        f"{'backbone classes size photo':31}{'':7}{'rows':>6}{'rows':>6}{'rows':>6}{'rows':>10}{'score':>10}"
        f"{'box px':>10}{'least':>8}{'median':>8}"
    )
    over = failed = False
    for backbone in arguments.backbones:
        for classes in arguments.classes:
            base = work / f"{backbone}-{classes}"
            weights = base / "weights.h5"
            for size in (SMALL, LARGE):
                if size[0] not in arguments.sizes:
                    continue
                chosen = photos if size == SMALL else photos[:1]
                out, again = base / str(size[0]), base / f"{size[0]}-onednn"
                options = {"weights": weights} if weights.is_file() else {}
                run_mrcnn(out, chosen, backbone, classes, size, onednn=False, **options)
                if not options:
                    (out / "weights.h5").replace(weights)
                run_mrcnn(again, chosen, backbone, classes, size, onednn=True, weights=weights)
                model, exported = load(backbone, classes, size, weights), out / "model.onnx"
                export(model, exported)
                sides = {
                    "Keras": predictor(model),
                    "ONNX": Segmenter(exported, provider="cpu", threshold=model.profile.score_threshold),
                }
                for photo in chosen:
                    image = np.load(photo)
                    reference, repeated = (
                        read_detections(folder / f"{photo.stem}.npz", image) for folder in (out, again)
                    )
                    own = match(reference, repeated).differing
                    for name, infer in sides.items():
                        row = match(reference, of_instances(infer(np.ascontiguousarray(image[..., ::-1]))))
                        over_limit = row.differing > max(1, MAX_DIFFERING * row.mrcnn)
                        over |= over_limit
                        failed |= over_limit and row.differing > own
                        label = f"{backbone} {classes} {size[0]} {photo.stem}"
                        print(
                            f"{label:31}{name:7}{row.mrcnn:6}{own:6}{row.ours:6}{row.differing:10}{row.score:10.1e}"
                            f"{row.box:10.2g}{row.min_mask_iou:8.4f}{row.median_mask_iou:8.4f}"
                            f"{'  !' if over_limit else ''}",
                            flush=True,
                        )
                exported.unlink()
    if failed:
        print("some cases differ by more than 2 rows of 100 (!), and by more than mrcnn differs from itself")
    elif over:
        print("some cases differ by more than 2 rows of 100 (!), but by no more than mrcnn differs from itself")
    else:
        print("every case is within the limits")
    return int(failed)


@dataclasses.dataclass(frozen=True)
class Detections:
    """The detections of one photo: boxes (N, 4) xyxy, scores (N,), class_ids (N,) from 1, masks bool (N, H, W)."""

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    masks: np.ndarray


def of_instances(instances: Instances) -> Detections:
    return Detections(instances.boxes, instances.scores, instances.class_ids + 1, instances.masks)


def read_detections(path: Path, image: np.ndarray) -> Detections:
    """What oracle.py wrote of an image."""
    with np.load(path) as file:
        shape = (len(file["scores"]), *image.shape[:2])
        masks = np.unpackbits(file["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        return Detections(file["rois"][:, [1, 0, 3, 2]].astype(float), file["scores"], file["class_ids"], masks)


@dataclasses.dataclass(frozen=True)
class PhotoComparison:
    """Rows of both sides for one photo, those without a partner, and the largest differences of the others."""

    mrcnn: int
    ours: int
    differing: int
    score: float
    box: float
    min_mask_iou: float
    median_mask_iou: float


def match(reference: Detections, found: Detections) -> PhotoComparison:
    """Pairs the detections of both: the same class, box within 1 px, score within 1e-3, mask IoU from 0.99."""
    free = np.ones(len(found.scores), bool)
    scores, distances, overlaps = [], [], []
    rows = zip(reference.boxes, reference.scores, reference.class_ids, reference.masks, strict=True)
    for box, score, class_id, mask in rows:
        away = np.abs(found.boxes - box).max(axis=1, initial=0)
        fits = free & (found.class_ids == class_id) & (away <= BOX) & (np.abs(found.scores - score) <= SCORE)
        if not fits.any():
            continue
        best = np.flatnonzero(fits)[away[fits].argmin()]
        union = np.count_nonzero(mask | found.masks[best])
        overlap = np.count_nonzero(mask & found.masks[best]) / union if union else 1.0
        if overlap < MASK_IOU:
            continue
        free[best] = False
        scores.append(abs(found.scores[best] - score))
        distances.append(away[best])
        overlaps.append(overlap)
    count = len(reference.scores)
    differing = max(count - len(scores), int(free.sum()))
    overlaps_array = np.array(overlaps)
    return PhotoComparison(
        count,
        len(free),
        differing,
        max(scores, default=0.0),
        max(distances, default=0.0),
        float(overlaps_array.min(initial=1.0)),
        float(np.median(overlaps_array)) if overlaps else 1.0,
    )


def compare_speed(arguments: argparse.Namespace, photo: Path, work: Path) -> None:
    """Times detect() and a Segmenter on the exported file and its int8 one in turns, and compares with the peak.

    The int8 file is calibrated on the same photo: its accuracy does not matter here.
    """
    from pumpseg_export.int8 import Calibration, export_int8

    image = np.ascontiguousarray(np.load(photo)[..., ::-1])
    frames = FrameFile(work / "frame", 1, *image.shape[:2])
    frames.path.write_bytes(image.tobytes())
    classes = arguments.classes[0]
    meter = PeakMeter(THREADS)
    groups, others, notes = [], 0.0, []
    for backbone in arguments.backbones:
        base = work / f"{backbone}-{classes}"
        weights, exported = base / "weights.h5", base / "1024.onnx"
        if not weights.is_file():
            run_mrcnn(base, [photo], backbone, classes, SMALL, onednn=True)
        export(load(backbone, classes, LARGE, weights), exported)
        settings = {"backbone": backbone, "classes": classes, "size": LARGE[0], "min_side": LARGE[1]}
        settings |= {"weights": str(weights), "confidence": confidence(classes), "threads": THREADS}
        settings["frames"] = dataclasses.asdict(frames)
        worker = (sys.executable, str(HERE / "mrcnn_worker.py"))
        side = str(LARGE[0])
        setup = Setup(str(exported), "cpu", THREADS, 1, frames)
        ours = compare.Contender(f"pumpseg matterport-{backbone}", side, THREADS, WORKER, setup.to_json())
        quantised = base / "1024-int8.onnx"
        export_int8(exported, quantised, Calibration([save_png(photo)], 1, ("minmax",)))
        setup = Setup(str(quantised), "cpu", THREADS, 1, frames)
        int8 = compare.Contender(f"pumpseg matterport-{backbone} int8", side, THREADS, WORKER, setup.to_json())
        theirs = compare.Contender(
            f"mrcnn detect(), {backbone}", side, THREADS, worker, json.dumps(settings, default=str)
        )
        for _ in range(PEAK_RUNS):
            meter.run()
        others = max(others, compare.measure([ours, int8, theirs], arguments.frames))
        for _ in range(PEAK_RUNS):
            meter.run()
        groups.append([ours, int8, theirs])
        gain, low, high = compare.ratio_interval(theirs.latency, int8.latency)
        seconds = float(np.median(ours.session)) / 1000
        shares = ", ".join(f"{part} {share:.0%}" for part, share in time_shares(exported, frames))
        gained = f"mrcnn takes {gain:.2f} ({low:.2f}–{high:.2f}) times as long"
        notes.append((backbone, arithmetic(exported, frames).operations / 1e9, seconds, shares, gained))
    peak = meter.peak().float32
    versions = ", ".join(f"{name} {version(name)}" for name in ("mrcnn", "tf-keras", "tensorflow-cpu"))
    section = compare.table(groups, frames, f"the photo {photo.stem}", f"{versions} with oneDNN", others)
    section += f"\n\nThe peak of {THREADS} threads is {peak:.0f} GFLOP/s.\n"
    for backbone, flop, seconds, shares, gained in notes:
        section += (
            f"\n- {backbone}: {flop:.0f} GFLOP at {flop / seconds:.0f} GFLOP/s, {flop / seconds / peak:.0%} of it. "
            f"The network's time: {shares}. In int8 {gained}."
        )
    print(section)
    if arguments.readme:
        text = compare.insert(arguments.readme.read_text(encoding="utf-8"), section, "mrcnn")
        write_text(arguments.readme, text)


def time_shares(path: Path, frames: FrameFile) -> list[tuple[str, float]]:
    """Shares of the session's time, largest first, by part of the model, from ONNX Runtime's own profile."""
    seconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        model = Model.open(path, "cpu", threads=THREADS, profile=Path(folder) / "profile")
        for event in kernel_events(model, frames):
            seconds[_part(event["name"], event["args"]["op_name"])] += event["dur"]
    return [(part, taken / seconds.total()) for part, taken in seconds.most_common()]


def _part(name: str, kind: str) -> str:
    if kind in ("RoiAlign", "NonMaxSuppression", "TopK"):
        return kind
    for part, marks in {
        "box head": ("box_head/",),
        "mask head": ("mask_head/",),
        "RPN": ("rpn_",),
        "FPN": ("fpn_",),
        "ResNet": ("trunk/",),
    }.items():
        if any(mark in name for mark in marks):
            return part
    return "glue"


if __name__ == "__main__":
    sys.exit(main())
