"""Ultralytics' YOLO11n-seg and YOLO26n-seg.

Only its public interface is used (AGPL-3.0: none of its code is in here).
"""

import os
from collections.abc import Callable
from pathlib import Path

# It would install missing packages with pip at run time.
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_VERBOSE"] = "false"

MODELS = ("yolo11n-seg", "yolo26n-seg")
TRANSFORMER = False
PACKAGES = ("ultralytics", "torch")


def export(model: str, side: int, target: Path) -> None:
    """Write the ONNX file, with random weights."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    os.chdir(target.parent)
    written = YOLO(f"{model}.yaml", task="segment").export(format="onnx", imgsz=side, device="cpu")
    Path(written).replace(target)


def predictor(file: Path, side: int) -> Callable:
    """Detects in a frame, uint8 BGR (H, W, 3), and returns the number of instances."""
    from ultralytics import YOLO

    model = YOLO(str(file), task="segment")
    return lambda frame: len(model.predict(frame, imgsz=side, device="cpu", verbose=False)[0])
