"""D-FINE-seg-N of the package dfine-seg (Apache-2.0)."""

from collections.abc import Callable
from pathlib import Path

MODELS = ("d-fine-seg-n",)
TRANSFORMER = True
PACKAGES = ("dfine-seg", "torch")
_COCO_CLASSES = 80


def export(model: str, side: int, target: Path) -> None:
    """Write the ONNX file, with random weights."""
    import torch
    from dfine_seg.dl.export import DFINEPostProcessor, ExportWrapper, export_to_onnx
    from dfine_seg.model.dfine import build_model

    torch.manual_seed(0)
    options = {"enable_mask_head": True, "device": "cpu", "img_size": (side, side), "task": "segment"}
    network = build_model("n", _COCO_CLASSES, **options)
    wrapped = ExportWrapper(network, DFINEPostProcessor(_COCO_CLASSES)).eval()
    partial = target.with_suffix(".part.onnx")
    image = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        wrapped(image)
        export_to_onnx(wrapped, partial, image, 1, False, False, "input", ["labels", "boxes", "scores", "masks"])
    partial.replace(target)


def predictor(file: Path, side: int) -> Callable:
    """Detects in a frame, uint8 BGR (H, W, 3), and returns the number of instances."""
    from dfine_seg.infer.onnx_model import ONNXModel

    model = ONNXModel(str(file), device="cpu")
    return lambda frame: len(model(frame)[0]["labels"])
