"""Roboflow's RF-DETR-Seg-Nano (Apache-2.0)."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

MODELS = ("rf-detr-seg-nano",)
TRANSFORMER = True
PACKAGES = ("rfdetr", "torch")
THRESHOLD = 0.5
_PATCH = 12


def export(model: str, side: int, target: Path) -> None:
    """Write the ONNX file, with random weights."""
    import torch
    from rfdetr import RFDETRSegNano

    torch.manual_seed(0)
    size = {"resolution": side, "positional_encoding_size": side // _PATCH}
    network = RFDETRSegNano(pretrain_weights=None, device="cpu", **size)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        Path(network.export(output_dir=folder, verbose=False)).replace(target)


def predictor(file: Path, side: int) -> Callable:
    """Detects in a frame, uint8 BGR (H, W, 3), and returns the number of instances.

    The package's own way into its exported file and out of it; together they are what its predict() does.
    """
    import onnxruntime
    import torch
    from PIL import Image
    from rfdetr.export._runtime.preprocess import preprocess_to_nchw
    from rfdetr.models.postprocess import PostProcess

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    finish = PostProcess(num_select=100)

    def detect(frame: np.ndarray) -> int:
        image = preprocess_to_nchw(Image.fromarray(frame[..., ::-1]), side, side)
        outputs = dict(zip(names, map(torch.from_numpy, session.run(names, {wanted.name: image})), strict=True))
        outputs = {"pred_boxes": outputs["dets"], "pred_logits": outputs["labels"], "pred_masks": outputs["masks"]}
        (found,) = finish(outputs, torch.tensor([frame.shape[:2]]), score_threshold=THRESHOLD)
        return len(found["masks"])

    return detect
