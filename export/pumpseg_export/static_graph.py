"""The inference graph with fixed shapes, which one CUDA graph or one TensorRT engine can hold."""

import numpy as np
import onnx
from onnx import TensorProto

from pumpseg.errors import PumpsegError
from pumpseg_export.assemble import Assembly, areas_of
from pumpseg_export.verifier import Verifier
from pumpseg_train.model.boxes import anchor_cells
from pumpseg_train.model.network import MaskRCNN


def assemble_static(model: MaskRCNN, size: tuple[int, int], verifier: Verifier | None = None) -> onnx.ModelProto:
    """The ONNX model for images of `size` (h, w) with a fixed number of proposals and detections.

    Like `assemble`, but its outputs always have `max_detections` rows: those that are not used come last, with score 0.
    Nothing depends on the content of an image, so no operator waits for the CPU to learn a size.

    Raises PumpsegError for a profile with a box and a mask per class.
    """
    if not (model.profile.compat.class_agnostic and model.profile.compat.joint_score):
        raise PumpsegError(f"there is no static graph of the profile {model.profile.name}, only of edge")
    return _StaticAssembly(model, size, verifier).model()


class _StaticAssembly(Assembly):
    def __init__(self, model: MaskRCNN, size: tuple[int, int], verifier: Verifier | None) -> None:
        super().__init__(model, size, verifier)
        profile = model.profile
        anchors = len(anchor_cells(profile, size)[0]) * profile.anchors_per_cell
        self.proposals = min(profile.proposals, profile.candidates, anchors)
        self.rows = self.detections = min(profile.max_detections, self.proposals)

    def _add_settings(self) -> None:
        """The number of RoIs is always the same."""

    def _best(self, boxes: str, scores: str, class_ids: str) -> tuple[str, str]:
        graph, op, profile = self.graph, self.op, self.profile
        scores, order = graph.ops("TopK", 2, scores, graph.ints(self.proposals), axis=0)
        boxes, class_ids = (op("Gather", tensor, order, axis=0) for tensor in (boxes, class_ids))
        same_class = None
        if len(self.mask_rcnn.classes) > 1:
            same_class = op(
                "Equal", op("Unsqueeze", class_ids, graph.ints(1)), op("Unsqueeze", class_ids, graph.ints(0))
            )
        rows, scores = self._cluster_nms(
            boxes, scores, self.detections, profile.nms_threshold, self.min_score, same_class
        )
        return op("Gather", order, rows, axis=0), scores

    def _suppress(self, boxes: str, scores: str, count: int, overlap: float, min_score: str) -> tuple[str, str]:
        return self._cluster_nms(boxes, scores, min(count, self.proposals), overlap, min_score)

    def _cluster_nms(
        self, boxes: str, scores: str, count: int, overlap: float, min_score: str, same_class: str | None = None
    ) -> tuple[str, str]:
        """Indices int64 and scores (count,) of what non-maximum suppression keeps of boxes (N, 4) sorted by score (N,).

        `model.boxes.non_maximum_suppression`; rows that are left over have the score 0. same_class: bool (N, N).
        """
        graph, op = self.graph, self.op
        suppresses = op("Greater", self._overlaps(boxes), graph.constant(overlap))
        if same_class is not None:
            suppresses = op("And", suppresses, same_class)
        suppresses = op("Trilu", op("Cast", suppresses, to=TensorProto.FLOAT), graph.constant(1, np.int64), upper=1)
        scores = op("Where", op("Greater", scores, min_score), scores, graph.constant(0.0))
        valid = op(
            "Unsqueeze", op("Cast", op("Greater", scores, graph.constant(0.0)), to=TensorProto.FLOAT), graph.ints(0)
        )
        keep = valid
        for _ in range(self.profile.nms_rounds):
            alone = op("Less", op("MatMul", keep, suppresses), graph.constant(0.5))
            keep = op("Mul", valid, op("Cast", alone, to=TensorProto.FLOAT))
        kept_scores = op("Mul", scores, op("Squeeze", keep, graph.ints(0)))
        best, rows = graph.ops("TopK", 2, kept_scores, graph.ints(count), axis=0)
        return rows, best

    def _above(self, scores: str) -> tuple[str, str]:
        graph, op = self.graph, self.op
        scores = op("Where", op("Greater", scores, self.threshold), scores, graph.constant(0.0))
        scores, rows = graph.ops("TopK", 2, scores, graph.ints(self.detections), axis=0)
        return rows, scores

    def _overlaps(self, boxes: str) -> str:
        """Pairwise IoU (N, N) of boxes (N, 4): `model.boxes.iou`."""
        graph, op = self.graph, self.op
        columns = graph.ops("Split", 4, boxes, graph.ints(1, 1, 1, 1), axis=1)  # x1, y1, x2, y2, each (N, 1)
        rows = [op("Transpose", column, perm=[1, 0]) for column in columns]
        nothing = graph.constant(0.0)

        def extent(axis: int) -> str:
            end = op("Min", columns[axis + 2], rows[axis + 2])
            return op("Max", op("Sub", end, op("Max", columns[axis], rows[axis])), nothing)

        shared = op("Mul", extent(0), extent(1))
        areas = op("Unsqueeze", areas_of(graph, boxes), graph.ints(1))
        union = op("Sub", op("Add", areas, op("Transpose", areas, perm=[1, 0])), shared)
        return op("Div", shared, op("Max", union, graph.constant(1e-6)))

    def _run_head(self, name: str, boxes: str, pool: int) -> tuple[dict[str, str], str]:
        """What a head answers for boxes (N, 4). Each is pooled from every level, and the one of its size is used."""
        graph, op, profile = self.graph, self.op, self.profile
        count = self.detections if name == "mask_head" else self.proposals
        areas = areas_of(graph, boxes)
        zeros = graph.constant(np.zeros(count), np.int64)
        pooled = ""
        for feature, stride, limit in zip(self.pyramids[name], profile.strides, self.level_areas(), strict=False):
            level = op(
                "RoiAlign",
                *(feature, boxes, zeros),
                mode="avg",
                output_height=pool,
                output_width=pool,
                sampling_ratio=profile.roi_sampling_ratio,
                spatial_scale=1.0 / stride,
                coordinate_transformation_mode="half_pixel",
            )
            if not pooled:
                pooled = level
            else:
                own = op("GreaterOrEqual", areas, graph.constant(limit))
                pooled = op("Where", op("Unsqueeze", own, graph.ints(1, 2, 3)), level, pooled)
        return graph.inline(self._converted_head(name, count), name, pooled), graph.constant(np.arange(count), np.int64)
