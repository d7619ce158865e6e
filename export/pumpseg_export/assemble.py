"""The whole inference graph: dense networks joined by standard operators, step by step as `model.detect` does."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from pumpseg_export.dense import convert_dense
from pumpseg_export.graph import GraphWriter
from pumpseg_train.model.boxes import MAX_LOG_SCALE, anchors
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile


def assemble(model: MaskRCNN, size: tuple[int, int]) -> onnx.ModelProto:
    """The ONNX model for images of `size` (h, w); docs/model-file.md has its inputs and outputs.

    Opset 17 without Loop, If, Scan or custom operators: what converters make of crop_and_resize,
    map_fn and padded NMS is slow and the usual reason why an export fails elsewhere.
    """
    profile, graph = model.profile, GraphWriter()
    image = graph.op("Cast", graph.op("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    trunk = graph.inline(convert_dense(model.trunk, (1, *size, 3)), "trunk", image)
    pyramid = [trunk[name] for name in ("p3", "p4", "p5")]

    proposals, objectness = _propose(graph, trunk, profile, size)
    features, order = _pool(graph, pyramid, proposals, profile, profile.box_pool)
    proposals, objectness = (graph.op("Gather", tensor, order, axis=0) for tensor in (proposals, objectness))
    box_head = convert_dense(model.box_head, (None, profile.box_pool, profile.box_pool, profile.fpn_channels))
    heads = graph.inline(box_head, "box_head", features)
    boxes, scores, class_ids = _detections(graph, heads, proposals, objectness, profile, size)

    features, order = _pool(graph, pyramid, boxes, profile, profile.mask_pool)
    mask_head = convert_dense(model.mask_head, (None, profile.mask_pool, profile.mask_pool, profile.fpn_channels))
    masks = graph.op("Sigmoid", graph.inline(mask_head, "mask_head", features)["mask_logits"])
    masks = graph.op("Gather", masks, _inverse_permutation(graph, order), axis=0)

    side = profile.mask_size
    return graph.model(
        f"pumpseg_{profile.name}",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *size, 3])],
        {
            "boxes": (boxes, helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4])),
            "scores": (scores, helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"])),
            "class_ids": (class_ids, helper.make_tensor_value_info("class_ids", TensorProto.INT64, ["N"])),
            "masks": (masks, helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["N", side, side])),
        },
    )


def _propose(graph: GraphWriter, trunk: dict[str, str], profile: Profile, size: tuple[int, int]) -> tuple[str, str]:
    """Proposals (P, 4) and their objectness (P,), best first: `model.proposals.propose`."""
    references = anchors(profile, size)
    logits = graph.op("Reshape", trunk["objectness"], graph.ints(-1))
    count = min(profile.candidates, len(references))
    logits, index = graph.ops("TopK", 2, logits, graph.ints(count), axis=0)
    scores = graph.op("Sigmoid", logits)
    deltas = graph.op("Gather", graph.op("Reshape", trunk["anchor_deltas"], graph.ints(-1, 4)), index, axis=0)
    boxes = _decode(graph, deltas, graph.op("Gather", graph.constant(references), index, axis=0), size)
    keep = _suppress(
        graph,
        boxes,
        scores,
        profile.proposals,
        profile.proposal_nms_threshold,
        profile.proposal_score_threshold,
    )
    return graph.op("Gather", boxes, keep, axis=0), graph.op("Gather", scores, keep, axis=0)


def _detections(
    graph: GraphWriter, heads: dict[str, str], proposals: str, objectness: str, profile: Profile, size: tuple[int, int]
) -> tuple[str, str, str]:
    """Boxes (N, 4), scores (N,) and class_ids (N,), best first."""
    probabilities = graph.op("Softmax", heads["class_logits"], axis=-1)
    probabilities = graph.op("Slice", probabilities, graph.ints(1), graph.ints(np.iinfo(np.int64).max), graph.ints(1))
    scores = graph.op("ReduceMax", probabilities, axes=[1], keepdims=0)
    scores = graph.op("Mul", scores, objectness)
    class_ids = graph.op("ArgMax", probabilities, axis=1, keepdims=0)
    deltas = graph.op("Mul", heads["box_deltas"], graph.constant(profile.box_deltas_std))
    boxes = _decode(graph, deltas, proposals, size)

    class_numbers = graph.op("Cast", graph.op("Unsqueeze", class_ids, graph.ints(1)), to=TensorProto.FLOAT)
    apart = graph.op("Add", boxes, graph.op("Mul", class_numbers, graph.constant(2.0 * max(size))))
    keep = _suppress(graph, apart, scores, profile.max_detections, profile.nms_threshold, profile.score_threshold)
    return tuple(graph.op("Gather", tensor, keep, axis=0) for tensor in (boxes, scores, class_ids))  # type: ignore[return-value]


def _decode(graph: GraphWriter, deltas: str, references: str, size: tuple[int, int]) -> str:
    """Boxes (N, 4) inside the image from deltas: `model.boxes.decode` and `clip`."""
    low, high = graph.ops("Split", 2, references, graph.ints(2, 2), axis=1)
    shift, log_scale = graph.ops("Split", 2, deltas, graph.ints(2, 2), axis=1)
    half = graph.constant(0.5)
    sides = graph.op("Max", graph.op("Sub", high, low), graph.constant(1e-3))
    centre = graph.op("Mul", graph.op("Add", low, high), half)
    centre = graph.op("Add", centre, graph.op("Mul", shift, sides))
    growth = graph.op("Exp", graph.op("Min", log_scale, graph.constant(MAX_LOG_SCALE)))
    half_sides = graph.op("Mul", graph.op("Mul", sides, growth), half)
    corners = graph.op("Concat", graph.op("Sub", centre, half_sides), graph.op("Add", centre, half_sides), axis=1)
    limits = graph.constant([size[1], size[0]] * 2)
    return graph.op("Min", graph.op("Max", corners, graph.constant(0.0)), limits)


def _suppress(graph: GraphWriter, boxes: str, scores: str, most: int, overlap: float, score: float) -> str:
    """Indices (K,) int64 of the boxes that non-maximum suppression keeps, best first."""
    rows = graph.op(
        "NonMaxSuppression",
        graph.op("Unsqueeze", boxes, graph.ints(0)),
        graph.op("Unsqueeze", scores, graph.ints(0, 1)),
        graph.ints(most),
        graph.constant([overlap]),
        graph.constant([score]),
    )
    return graph.op("Gather", rows, graph.constant(2, np.int64), axis=1)


def _pool(graph: GraphWriter, pyramid: list[str], boxes: str, profile: Profile, pool: int) -> tuple[str, str]:
    """RoIAlign of boxes (N, 4): features (N, C, pool, pool) level by level, and the box number of each row.

    The boxes are put in the order of their levels; gathering features instead would copy far more.
    """
    areas = _areas(graph, boxes)
    levels = len(profile.strides)
    limits = [(profile.roi_level_size / 2**step) ** 2 for step in range(levels - 1, -1, -1)]
    features, order = [], []
    for level, (feature, stride) in enumerate(zip(pyramid, profile.strides, strict=True)):
        tests = []
        if level > 0:
            tests.append(graph.op("GreaterOrEqual", areas, graph.constant(limits[level])))
        if level < levels - 1:
            tests.append(graph.op("Less", areas, graph.constant(limits[level + 1])))
        chosen = tests[0] if len(tests) == 1 else graph.op("And", *tests)
        rows = graph.op("Squeeze", graph.op("NonZero", chosen), graph.ints(0))
        image_numbers = graph.op(
            "ConstantOfShape",
            graph.op("Shape", rows),
            value=helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        )
        features.append(
            graph.op(
                "RoiAlign",
                feature,
                graph.op("Gather", boxes, rows, axis=0),
                image_numbers,
                mode="avg",
                output_height=pool,
                output_width=pool,
                sampling_ratio=profile.roi_sampling_ratio,
                spatial_scale=1.0 / stride,
                coordinate_transformation_mode="half_pixel",
            )
        )
        order.append(rows)
    return graph.op("Concat", *features, axis=0), graph.op("Concat", *order, axis=0)


def _areas(graph: GraphWriter, boxes: str) -> str:
    low, high = graph.ops("Split", 2, boxes, graph.ints(2, 2), axis=1)
    width, height = graph.ops("Split", 2, graph.op("Sub", high, low), graph.ints(1, 1), axis=1)
    return graph.op("Squeeze", graph.op("Mul", width, height), graph.ints(1))


def _inverse_permutation(graph: GraphWriter, order: str) -> str:
    """Where each number 0..N-1 stands in `order`: the indices that sort it."""
    return graph.ops("TopK", 2, order, graph.op("Shape", order), axis=0, largest=0)[1]
