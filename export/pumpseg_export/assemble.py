"""The whole inference graph: dense networks joined by standard operators, step by step as `model.detect` does."""

import copy

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pumpseg.inference.model_file import ROIS_MULTIPLE, SCORE_THRESHOLD
from pumpseg_export.dense import convert_dense, split_pointwise
from pumpseg_export.graph import GraphWriter
from pumpseg_export.tighten_boxes import tighten_to_masks
from pumpseg_export.verifier import CONTEXT, FEATURES, OWN, OWN_SCORE, PICTURE, Verifier
from pumpseg_train.model.boxes import MAX_LOG_SCALE, anchor_cells, anchor_shapes, whole_image
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile
from pumpseg_train.model.roi_align import roi_level_size

CONTEXT_MAPS = {"c4": 16, "c5": 32}
"""The trunk's outputs that a verifier reads, with their strides."""
_CONTEXT_SAMPLES = 3  # on each side of a box


def with_score_threshold(graph: onnx.ModelProto, threshold: float) -> onnx.ModelProto:
    """A copy of an assembled graph with another default of the score threshold."""
    result = copy.deepcopy(graph)
    (constant,) = (tensor for tensor in result.graph.initializer if tensor.name == SCORE_THRESHOLD)
    constant.CopyFrom(numpy_helper.from_array(np.array([threshold], np.float32), SCORE_THRESHOLD))
    return result


def assemble(
    model: MaskRCNN, size: tuple[int, int], verifier: Verifier | None = None, *, features: bool = False
) -> onnx.ModelProto:
    """The ONNX model for images of `size` (h, w); docs/model-file.md has its inputs and outputs.

    verifier: weighs the scores. features: an output more,
    verifier.FEATURES float32 [N, F], what a verifier sees of each detection.

    Opset 17 without Loop, If, Scan or custom operators: what converters make of crop_and_resize,
    map_fn and padded NMS is slow and the usual reason why an export fails elsewhere.
    """
    return Assembly(model, size, verifier, features=features).model()


class Assembly:
    """Writes the graph of one model. Tensors are names in the graph; docstrings give what they hold."""

    rows: int | str = "N"  # of the outputs

    def __init__(
        self, model: MaskRCNN, size: tuple[int, int], verifier: Verifier | None = None, *, features: bool = False
    ) -> None:
        self.mask_rcnn, self.profile, self.size = model, model.profile, size
        self.verifier, self.features = verifier, features
        self.compat = model.profile.compat
        self.roi_levels = self.profile.levels[: self.profile.roi_levels]
        # Of a head that begins with a 1x1 convolution: that, which the trunk takes over, and the rest.
        heads = {name: split_pointwise(model.parts[name]) for name in ("box_head", "mask_head")}
        self.split = {name: split for name, split in heads.items() if split}
        self.graph = GraphWriter()
        self.op = self.graph.op

    def model(self) -> onnx.ModelProto:
        graph, profile, op = self.graph, self.profile, self.op
        self.threshold = self.min_score = graph.setting(SCORE_THRESHOLD, [profile.score_threshold])
        if self.verifier:
            # Probabilities are at most 1: scores below this will not reach the threshold.
            self.min_score = op("Pow", self.threshold, graph.constant(1 / OWN_SCORE))
        self._add_settings()
        trunk = graph.inline(convert_dense(self._trunk(), (1, *self.size, 3)), "trunk", self._normalised_image())
        self.pyramids = {
            head: [trunk[self._map_for(head, level)] for level in self.roi_levels] for head in ("box_head", "mask_head")
        }

        proposals, objectness = self._propose(trunk)
        # In the order of the proposals: it decides between equal scores.
        answers, rows = self._run_head("box_head", proposals, profile.box_pool)
        heads = {name: op("Gather", answer, rows, axis=0) for name, answer in answers.items()}
        window = self._window()
        boxes, scores, class_ids = self._detections(heads, proposals, objectness, window)
        extra = {}
        if self.verifier or self.features:
            context = self._context(trunk, boxes)
            if self.features:
                width = sum(self.mask_rcnn.trunk.output[name].shape[-1] for name in CONTEXT_MAPS)
                extra[FEATURES] = (
                    context,
                    helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [self.rows, width]),
                )
        if self.verifier:
            rows, scores = self._verified(self.verifier, context, scores, class_ids)
            boxes, class_ids = (op("Gather", tensor, rows, axis=0) for tensor in (boxes, class_ids))

        mask_rois = boxes
        if profile.mask_margin:
            mask_rois = _clip(graph, _grow(graph, boxes, profile.mask_margin), *window)
        answers, rows = self._run_head("mask_head", mask_rois, profile.mask_pool)
        masks, side = answers["mask_logits"], profile.mask_size
        if self.compat.class_agnostic:
            masks = op("Gather", masks, rows, axis=0)
        else:
            masks = op("Reshape", self._of_class(masks, rows, class_ids, side * side), graph.ints(-1, side, side))
        masks = op("Sigmoid", masks)
        if profile.mask_margin:
            boxes, masks = tighten_to_masks(graph, masks, mask_rois, boxes, side, self.rows)
        if self.compat.last_pixel:
            # The boxes of the contract end after their last pixel.
            boxes = op("Add", boxes, graph.constant([0, 0, self.compat.last_pixel, self.compat.last_pixel]))
        return graph.model(
            f"pumpseg_{profile.name}",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *self.size, 3])],
            {
                "boxes": (boxes, helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [self.rows, 4])),
                "scores": (scores, helper.make_tensor_value_info("scores", TensorProto.FLOAT, [self.rows])),
                "class_ids": (class_ids, helper.make_tensor_value_info("class_ids", TensorProto.INT64, [self.rows])),
                "masks": (masks, helper.make_tensor_value_info("masks", TensorProto.FLOAT, [self.rows, side, side])),
                **extra,
            },
        )

    def _trunk(self) -> keras.Model:
        """The trunk with the outputs that this graph uses."""
        trunk = self.mask_rcnn.trunk
        unused = () if self.verifier or self.features else CONTEXT_MAPS
        outputs = {name: each for name, each in trunk.output.items() if name not in unused}
        for head, (pointwise, _) in self.split.items():
            outputs |= {self._map_for(head, level): pointwise(trunk.output[level]) for level in self.roi_levels}
        return keras.Model(trunk.input, outputs)

    def _map_for(self, head: str, level: str) -> str:
        """The trunk's output that a head is pooled from."""
        return f"{level}_{head}" if head in self.split else level

    def _context(self, trunk: dict[str, str], boxes: str) -> str:
        """Means (N, F) of the backbone's last two outputs over boxes (N, 4) and what is around them."""
        graph, op = self.graph, self.op
        rois = _grow(graph, boxes, CONTEXT)
        zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
        image_numbers = op("ConstantOfShape", op("Shape", boxes, end=1), value=zero)
        means = [
            op(
                "RoiAlign",
                *(trunk[name], rois, image_numbers),
                mode="avg",
                output_height=1,
                output_width=1,
                sampling_ratio=_CONTEXT_SAMPLES,
                spatial_scale=1.0 / stride,
                coordinate_transformation_mode="half_pixel",
            )
            for name, stride in CONTEXT_MAPS.items()
        ]
        return op("Squeeze", op("Concat", *means, axis=1), graph.ints(2, 3))

    def _verified(self, verifier: Verifier, context: str, scores: str, class_ids: str) -> tuple[str, str]:
        """Which detections still reach the threshold, best first: indices int64 and new scores.

        score^OWN_SCORE x (best of its class in the picture)^PICTURE x probability^OWN, see `verifier`.
        """
        graph, op = self.graph, self.op
        logits = op("Add", op("MatMul", context, graph.constant(verifier.weights)), graph.constant(verifier.bias))
        column = op("Unsqueeze", class_ids, graph.ints(1))
        right = op("GatherElements", op("Sigmoid", logits), column, axis=1)  # (N, 1)
        scores = op("Unsqueeze", scores, graph.ints(1))
        convincing = op("Sqrt", op("Mul", scores, right))
        classes = graph.constant(np.arange(len(self.mask_rcnn.classes))[None], np.int64)
        by_class = op("Where", op("Equal", column, classes), convincing, graph.constant(0.0))
        # Where nothing is detected there is a row of zeros.
        best = op("ReduceMax", op("Pad", by_class, graph.ints(0, 0, 1, 0)), axes=[0], keepdims=0)
        best = op("Unsqueeze", op("Gather", best, class_ids, axis=0), graph.ints(1))
        parts = ((scores, OWN_SCORE), (best, PICTURE), (right, OWN))
        factors = [op("Pow", value, graph.constant(exponent)) for value, exponent in parts]
        product = op("Mul", op("Mul", factors[0], factors[1]), factors[2])
        return self._above(op("Squeeze", product, graph.ints(1)))

    def _above(self, scores: str) -> tuple[str, str]:
        """Indices int64 and scores of those above the threshold, best first."""
        above = self.op("Cast", self.op("Greater", scores, self.threshold), to=TensorProto.INT64)
        count = self.op("ReduceSum", above, self.graph.ints(0), keepdims=1)
        scores, rows = self.graph.ops("TopK", 2, scores, count, axis=0)
        return rows, scores

    def _add_settings(self) -> None:
        self.rois_multiple = self.graph.setting(ROIS_MULTIPLE, [1], np.int64)

    def _normalised_image(self) -> str:
        """The image (1, 3, H, W) as the trunk's first convolution takes it."""
        graph, op = self.graph, self.op
        image = op("Transpose", "image", perm=[0, 3, 1, 2])
        mean, scale = self.profile.pixel_mean, self.profile.pixel_scale
        if mean[0] in range(256) and set(mean) == {mean[0]}:
            # One operator, and an int8 trunk reads the image's own bytes.
            return op("DequantizeLinear", image, graph.constant(scale), graph.constant(mean[0], np.uint8))
        centred = op("Sub", op("Cast", image, to=TensorProto.FLOAT), graph.constant(np.reshape(mean, (3, 1, 1))))
        return centred if scale == 1.0 else op("Mul", centred, graph.constant(scale))

    def _propose(self, trunk: dict[str, str]) -> tuple[str, str]:
        """Proposals (P, 4) and their objectness (P,), best first: `model.proposals.propose`."""
        graph, profile, op = self.graph, self.profile, self.op
        logits = op("Reshape", trunk["objectness"], graph.ints(-1))
        count = min(profile.candidates, len(anchor_cells(profile, self.size)[0]) * profile.anchors_per_cell)
        if self.compat.rank_by_probability:
            # `model.proposals.probability`: ONNX Runtime's Sigmoid is off by the last bits.
            one = graph.constant(1.0)
            probabilities = op("Div", one, op("Add", one, op("Exp", op("Neg", logits))))
            scores, index = graph.ops("TopK", 2, probabilities, graph.ints(count), axis=0)
        else:
            logits, index = graph.ops("TopK", 2, logits, graph.ints(count), axis=0)
            scores = op("Sigmoid", logits)
        deltas = op("Gather", op("Reshape", trunk["anchor_deltas"], graph.ints(-1, 4)), index, axis=0)
        if set(profile.anchor_deltas_std) != {1.0}:
            deltas = op("Mul", deltas, graph.constant(profile.anchor_deltas_std))
        boxes = _decode(graph, deltas, anchors_of(graph, profile, self.size, index))
        boxes = _clip(graph, boxes, *self._whole_image())
        min_score = graph.constant([profile.proposal_score_threshold])
        if self.compat.joint_score:
            # The score is the objectness times a probability: below the threshold now, it will not rise above it.
            min_score = op("Max", min_score, self.min_score)
        rows, scores = self._suppress(boxes, scores, profile.proposals, profile.proposal_nms_threshold, min_score)
        return op("Gather", boxes, rows, axis=0), scores

    def _detections(
        self, heads: dict[str, str], proposals: str, objectness: str, window: tuple[str, str]
    ) -> tuple[str, ...]:
        """Boxes (N, 4), scores (N,) and class_ids (N,), best first."""
        graph, op, profile = self.graph, self.op, self.profile
        probabilities = op("Softmax", heads["class_logits"], axis=-1)
        of_classes = op("Slice", probabilities, graph.ints(1), graph.ints(np.iinfo(np.int64).max), graph.ints(1))
        # CUDA has no ArgMax since opset 12, and each one would wait for the CPU.
        likeliest = graph.ops("TopK", 2, of_classes, graph.ints(1), axis=1)
        scores, class_ids = (op("Squeeze", each, graph.ints(1)) for each in likeliest)
        if self.compat.joint_score:
            scores = op("Mul", scores, objectness)
        else:
            background = op("Gather", probabilities, graph.constant(0, np.int64), axis=1)
            scores = op("Where", op("Greater", scores, background), scores, graph.constant(0.0))
        deltas = heads["box_deltas"]
        if not self.compat.class_agnostic:
            count = op("Squeeze", op("Shape", class_ids), graph.ints(0))
            zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
            deltas = self._of_class(deltas, op("Range", zero, count, one), class_ids, 4)
        deltas = op("Mul", deltas, graph.constant(profile.box_deltas_std))
        boxes = _clip(graph, _decode(graph, deltas, proposals), *window)
        rows, scores = self._best(boxes, scores, class_ids)
        return op("Gather", boxes, rows, axis=0), scores, op("Gather", class_ids, rows, axis=0)

    def _best(self, boxes: str, scores: str, class_ids: str) -> tuple[str, str]:
        """What non-maximum suppression keeps, each class for itself, best first: indices int64 (N,) and scores (N,)."""
        graph, op, profile = self.graph, self.op, self.profile
        limits = (profile.max_detections, profile.nms_threshold, self.min_score)
        if len(self.mask_rcnn.classes) == 1:
            return self._suppress(boxes, scores, *limits)
        classes = graph.constant(np.arange(len(self.mask_rcnn.classes))[:, None], np.int64)
        own = op("Equal", op("Unsqueeze", class_ids, graph.ints(0)), classes)  # (K, N)
        by_class = op("Where", own, op("Unsqueeze", scores, graph.ints(0)), graph.constant(-1.0))
        rows = self._kept(boxes, by_class, *limits, by_class=True)
        count = op("Min", op("Shape", rows), graph.ints(profile.max_detections))
        scores, best = graph.ops("TopK", 2, op("Gather", scores, rows, axis=0), count, axis=0)
        return op("Gather", rows, best, axis=0), scores

    def _suppress(self, boxes: str, scores: str, count: int, overlap: float, min_score: str) -> tuple[str, str]:
        """The boxes (N, 4) with scores (N,) above `min_score` that non-maximum suppression keeps, at most `count`, best
        first: indices int64 and scores."""
        rows = self._kept(boxes, scores, count, overlap, min_score)
        return rows, self.op("Gather", scores, rows, axis=0)

    def _kept(
        self, boxes: str, scores: str, count: int, overlap: float, min_score: str, *, by_class: bool = False
    ) -> str:
        """Indices int64 of the boxes (N, 4) above `min_score` that non-maximum suppression keeps, best first.

        scores: (N,), or, by class, (K, N): of each class at most `count` boxes are kept.
        """
        graph = self.graph
        rows = self.op(
            "NonMaxSuppression",
            self.op("Unsqueeze", boxes, graph.ints(0)),
            self.op("Unsqueeze", scores, graph.ints(0) if by_class else graph.ints(0, 1)),
            graph.ints(count),
            graph.constant([overlap]),
            min_score,
        )
        return self.op("Gather", rows, graph.constant(2, np.int64), axis=1)

    def _whole_image(self) -> tuple[str, str]:
        """Corners (2,) of the image."""
        window = whole_image(self.profile, self.size)
        return self.graph.constant(window[:2]), self.graph.constant(window[2:])

    def _window(self) -> tuple[str, str]:
        """Corners (2,) that detections stay inside: of the image, or of its content, `model.boxes.content_window`."""
        if not self.compat.clip_to_content:
            return self._whole_image()
        graph, op = self.graph, self.op
        starts, ends = [], []
        for axis, side in ((2, self.size[1]), (1, self.size[0])):
            brightest = op("ReduceMax", "image", axes=[3, 3 - axis], keepdims=0)  # (1, side)
            used = op("Cast", op("Cast", brightest, to=TensorProto.BOOL), to=TensorProto.INT32)
            before = op("ArgMax", used, axis=1, keepdims=0)
            last = op("ArgMax", used, axis=1, keepdims=0, select_last_index=1)
            # In a black image both are at their defaults, which makes the whole image the window.
            after = op("Sub", graph.ints(side - 1), last)
            start = op("Min", before, after)
            end = op("Sub", graph.ints(side), op("Min", after, op("Add", start, graph.ints(1))))
            starts.append(start)
            ends.append(end)
        low, high = (op("Cast", op("Concat", *values, axis=0), to=TensorProto.FLOAT) for values in (starts, ends))
        return low, op("Sub", high, graph.constant(self.compat.last_pixel))

    def _of_class(self, answers: str, rows: str, class_ids: str, width: int) -> str:
        """What a head answers (M, K + 1, width) in the rows (N,) for the classes (N,): `model.detect.of_class`."""
        graph, op = self.graph, self.op
        first = op("Mul", rows, graph.constant(len(self.mask_rcnn.classes) + 1, np.int64))
        places = op("Add", first, op("Add", class_ids, graph.constant(1, np.int64)))
        return op("Gather", op("Reshape", answers, graph.ints(-1, width)), places, axis=0)

    def _run_head(self, name: str, boxes: str, pool: int) -> tuple[dict[str, str], str]:
        """What a head answers for boxes (N, 4), and the row of each box in that (N,).

        The boxes are pooled in the order of their levels; gathering features instead would copy far more. There are
        rows for the next `rois_multiple` of N, boxes without area being added.
        """
        graph, op, profile = self.graph, self.op, self.profile
        count = op("Shape", boxes, end=1)
        more = op("Mod", op("Neg", count), self.rois_multiple)
        boxes = op("Pad", boxes, op("Concat", graph.ints(0, 0), more, graph.ints(0), axis=0))
        areas = areas_of(graph, boxes)
        pyramid, limits = self.pyramids[name], self.level_areas()
        features, order = [], []
        for level, (feature, stride) in enumerate(zip(pyramid, profile.strides, strict=False)):
            tests = []
            if level > 0:
                tests.append(op("GreaterOrEqual", areas, graph.constant(limits[level])))
            if level < len(pyramid) - 1:
                tests.append(op("Less", areas, graph.constant(limits[level + 1])))
            chosen = tests[0] if len(tests) == 1 else op("And", *tests)
            rows = op("Squeeze", op("NonZero", chosen), graph.ints(0))
            zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
            image_numbers = op("ConstantOfShape", op("Shape", rows), value=zero)
            rois, scale = op("Gather", boxes, rows, axis=0), 1.0 / stride
            if self.compat.roi_corners:
                rois, scale = self._corner_samples(rois, pool, stride), 1.0
            features.append(
                op(
                    "RoiAlign",
                    *(feature, rois, image_numbers),
                    mode="avg",
                    output_height=pool,
                    output_width=pool,
                    sampling_ratio=profile.roi_sampling_ratio,
                    spatial_scale=scale,
                    coordinate_transformation_mode="half_pixel",
                )
            )
            order.append(rows)
        # The inverse permutation is what sorts the order.
        places = op("Concat", *order, axis=0)
        places = graph.ops("TopK", 2, places, op("Shape", places), axis=0, largest=0)[1]
        pooled, places = op("Concat", *features, axis=0), op("Slice", places, graph.ints(0), count)
        return graph.inline(self._converted_head(name, None), name, pooled), places

    def _converted_head(self, name: str, count: int | None) -> onnx.ModelProto:
        """What a head computes of pooled features of `count` RoIs."""
        head = self.split[name][1] if name in self.split else self.mask_rcnn.parts[name]
        return convert_dense(head, (count, *head.input.shape[1:]))

    def level_areas(self) -> list[float]:
        """The area from which boxes are pooled from each level, finest first; the first level takes what is smaller."""
        levels, side = len(self.roi_levels), roi_level_size(self.profile, self.size)
        return [(side / 2**step) ** 2 for step in range(levels - 1, -1, -1)]

    def _corner_samples(self, boxes: str, pool: int, stride: int) -> str:
        """RoIs (N, 4) in cells, whose cells' middles are the samples of `model.roi_align.crop_and_resize`."""
        graph, op = self.graph, self.op
        cells = [(side // stride - 1) / (side - 1) for side in (self.size[1], self.size[0])]
        low, high = graph.ops("Split", 2, op("Mul", boxes, graph.constant(cells * 2)), graph.ints(2, 2), axis=1)
        margin = op("Mul", op("Sub", high, low), graph.constant(0.5 / (pool - 1)))
        half = graph.constant(0.5)  # RoiAlign takes it off again
        low, high = op("Add", op("Sub", low, margin), half), op("Add", op("Add", high, margin), half)
        return op("Concat", low, high, axis=1)


def anchors_of(graph: GraphWriter, profile: Profile, size: tuple[int, int], index: str) -> str:
    """The anchors (N, 4) of an index (N,), rows of `model.boxes.anchors`, all of which would make the file larger."""
    cells, levels = anchor_cells(profile, size)
    each = profile.anchors_per_cell
    cell = graph.op("Div", index, graph.constant(each, np.int64))
    kind = graph.op("Mod", index, graph.constant(each, np.int64))
    first = graph.op("Gather", graph.constant(levels * each, np.int32), cell, axis=0)
    shapes = graph.constant(anchor_shapes(profile).reshape(-1, 4))
    shape = graph.op("Gather", shapes, graph.op("Add", first, graph.op("Cast", kind, to=TensorProto.INT32)), axis=0)
    centre = graph.op("Gather", graph.constant(cells), cell, axis=0)
    return graph.op("Add", graph.op("Concat", centre, centre, axis=1), shape)


def _grow(graph: GraphWriter, boxes: str, margin: float) -> str:
    """Boxes (N, 4) that are larger on each side: `model.tighten_boxes.grow`."""
    low, high = graph.ops("Split", 2, boxes, graph.ints(2, 2), axis=1)
    more = graph.op("Mul", graph.op("Sub", high, low), graph.constant(margin))
    return graph.op("Concat", graph.op("Sub", low, more), graph.op("Add", high, more), axis=1)


def _decode(graph: GraphWriter, deltas: str, references: str) -> str:
    """Boxes (N, 4) from deltas: `model.boxes.decode`."""
    low, high = graph.ops("Split", 2, references, graph.ints(2, 2), axis=1)
    shift, log_scale = graph.ops("Split", 2, deltas, graph.ints(2, 2), axis=1)
    half = graph.constant(0.5)
    sides = graph.op("Sub", high, low)
    centre = graph.op("Mul", graph.op("Add", low, high), half)
    centre = graph.op("Add", centre, graph.op("Mul", shift, sides))
    growth = graph.op("Exp", graph.op("Min", log_scale, graph.constant(MAX_LOG_SCALE)))
    half_sides = graph.op("Mul", graph.op("Mul", sides, growth), half)
    return graph.op("Concat", graph.op("Sub", centre, half_sides), graph.op("Add", centre, half_sides), axis=1)


def _clip(graph: GraphWriter, boxes: str, low: str, high: str) -> str:
    """Boxes (N, 4) cut to the corners `low` and `high` (2,): `model.boxes.clip`."""
    lows, highs = (graph.op("Concat", corner, corner, axis=0) for corner in (low, high))
    return graph.op("Max", graph.op("Min", boxes, highs), lows)


def areas_of(graph: GraphWriter, boxes: str) -> str:
    """Areas (N,) of boxes (N, 4)."""
    low, high = graph.ops("Split", 2, boxes, graph.ints(2, 2), axis=1)
    width, height = graph.ops("Split", 2, graph.op("Sub", high, low), graph.ints(1, 1), axis=1)
    return graph.op("Squeeze", graph.op("Mul", width, height), graph.ints(1))
