"""The shipped models, run on a picture that comes with pumpseg: do they find here what they found elsewhere?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pumpseg.doctor.finding import FAULT, OK, Finding
from pumpseg.doctor.isolated import isolated
from pumpseg.doctor.packages import reinstall_command
from pumpseg.errors import PumpsegError

PICTURE = Path(__file__).with_name("pumpkins.jpg")
STORED = Path(__file__).with_name("pumpkins.json")
NAMES = ("fast-fp32", "fast-int8", "accurate-fp32", "accurate-int8")
# Processors round differently, and those without fast int8 instructions quantise differently.
MIN_IOU, MAX_SCORE_DIFFERENCE = 0.85, 0.1
SURE = 0.8


def check_models() -> list[Finding]:
    return isolated("models", f"{__name__}:try_models")


def try_models() -> list[Finding]:
    try:
        from pumpseg.images import read_image
        from pumpseg.inference.providers import import_onnxruntime

        import_onnxruntime()
    except ImportError:
        return []  # reported by itself
    try:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        picture = read_image(PICTURE)
    except (PumpsegError, OSError, ValueError) as error:
        return [Finding("models", FAULT, f"the picture to try them on cannot be read ({error})", reinstall_command())]
    findings = []
    for name in NAMES:
        try:
            problem = difference(find(name, picture), stored[name])
        except PumpsegError as error:
            problem = str(error)
        text = problem or "finds what it should"
        findings.append(
            Finding(f"model {name}", FAULT if problem else OK, text, reinstall_command() if problem else "")
        )
    return findings


def find(name: str, picture: Any) -> list[dict[str, Any]]:
    """Box, score and mask area in pixels of every instance that a model is sure of, in the picture (H, W, 3)."""
    from pumpseg import Segmenter

    with Segmenter(name, provider="cpu") as segmenter:
        instances = segmenter(picture)
    areas = [int(mask.sum()) for mask in instances.masks]
    return [
        {"box": [round(float(side), 1) for side in box], "score": round(float(score), 3), "area": area}
        for box, score, area in zip(instances.boxes, instances.scores, areas, strict=True)
        if score >= SURE
    ]


def difference(found: list[dict[str, Any]], stored: list[dict[str, Any]]) -> str:
    """How detections differ from those stored, in words; empty if they agree."""
    import numpy as np

    from pumpseg.boxes import box_iou

    for wanted in stored:
        if wanted["score"] < SURE + MAX_SCORE_DIFFERENCE:
            continue  # may be found or not
        boxes = np.array([one["box"] for one in found], float).reshape(-1, 4)
        overlaps = box_iou(np.array([wanted["box"]], float), boxes)[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < MIN_IOU:
            return f"does not find the pumpkin at {wanted['box']} that it finds elsewhere"
        score, area = found[best]["score"], found[best]["area"]
        if abs(score - wanted["score"]) > MAX_SCORE_DIFFERENCE:
            return f"scores the pumpkin at {wanted['box']} {score:.2f}, elsewhere {wanted['score']:.2f}"
        if not MIN_IOU < area / wanted["area"] < 1 / MIN_IOU:
            return f"gives the pumpkin at {wanted['box']} a mask of {area} pixels, elsewhere {wanted['area']}"
    return ""
