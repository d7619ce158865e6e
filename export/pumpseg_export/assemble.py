"""The whole inference graph: dense networks joined by standard operators, step by step as `model.detect` does."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pumpseg.inference.model_file import ROIS_MULTIPLE, SCORE_THRESHOLD
from pumpseg_export.dense import convert_dense
from pumpseg_export.graph import GraphWriter
from pumpseg_export.tighten_boxes import tighten_to_masks
from pumpseg_train.model.boxes import MAX_LOG_SCALE, anchor_cells, anchor_shapes, whole_image
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile
from pumpseg_train.model.roi_align import roi_level_size


def with_score_threshold(graph: onnx.ModelProto, threshold: float) -> onnx.ModelProto:
    """A copy of an assembled graph with another score threshold where the caller gives none."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    (constant,) = (tensor for tensor in copy.graph.initializer if tensor.name == SCORE_THRESHOLD)
    constant.CopyFrom(numpy_helper.from_array(np.array([threshold], np.float32), SCORE_THRESHOLD))
    return copy


def assemble(model: MaskRCNN, size: tuple[int, int]) -> onnx.ModelProto:
    """The ONNX model for images of `size` (h, w); docs/model-file.md has its inputs and outputs.

    Opset 17 without Loop, If, Scan or custom operators: what converters make of crop_and_resize,
    map_fn and padded NMS is slow and the usual reason why an export fails elsewhere.
    """
    profile, graph = model.profile, GraphWriter()
    least_score = graph.setting(SCORE_THRESHOLD, [profile.score_threshold])
    multiple = graph.setting(ROIS_MULTIPLE, [1], np.int64)
    trunk = graph.inline(convert_dense(model.trunk, (1, *size, 3)), "trunk", _normalised_image(graph, profile))
    pyramid = [trunk[name] for name in profile.levels[: profile.roi_levels]]

    proposals, objectness = _propose(graph, trunk, profile, size, least_score)
    box_head = convert_dense(model.box_head, (None, profile.box_pool, profile.box_pool, profile.fpn_channels))

    # In the order of the proposals: it decides between equal scores.
    features, places = _pool(graph, pyramid, proposals, profile, profile.box_pool, size, multiple)
    answers = graph.inline(box_head, "box_head", features)
    heads = {name: graph.op("Gather", answer, places, axis=0) for name, answer in answers.items()}

    window = _window(graph, profile, size)
    boxes, scores, class_ids = _detections(graph, heads, proposals, objectness, model, window, least_score)

    seen = _clip(graph, _grow(graph, boxes, profile.mask_margin), *window) if profile.mask_margin else boxes
    features, places = _pool(graph, pyramid, seen, profile, profile.mask_pool, size, multiple)
    mask_head = convert_dense(model.mask_head, (None, profile.mask_pool, profile.mask_pool, profile.fpn_channels))
    masks = graph.inline(mask_head, "mask_head", features)["mask_logits"]
    side = profile.mask_size
    if profile.compat.class_agnostic:
        masks = graph.op("Gather", masks, places, axis=0)
    else:
        masks = _of_class(graph, masks, places, class_ids, model, side * side)
        masks = graph.op("Reshape", masks, graph.ints(-1, side, side))
    masks = graph.op("Sigmoid", masks)
    if profile.mask_margin:
        boxes, masks = tighten_to_masks(graph, masks, seen, boxes, side)
    boxes = _shift_ends(graph, boxes, profile)
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


def _normalised_image(graph: GraphWriter, profile: Profile) -> str:
    """The image (1, 3, H, W) as the trunk's first convolution takes it."""
    image = graph.op("Transpose", "image", perm=[0, 3, 1, 2])
    mean, scale = profile.pixel_mean, profile.pixel_scale
    if mean[0] in range(256) and set(mean) == {mean[0]}:
        # One operator, and an int8 trunk reads the image's own bytes.
        return graph.op("DequantizeLinear", image, graph.constant(scale), graph.constant(mean[0], np.uint8))
    centred = graph.op(
        "Sub", graph.op("Cast", image, to=TensorProto.FLOAT), graph.constant(np.reshape(mean, (3, 1, 1)))
    )
    return centred if scale == 1.0 else graph.op("Mul", centred, graph.constant(scale))


def _propose(
    graph: GraphWriter, trunk: dict[str, str], profile: Profile, size: tuple[int, int], least_score: str
) -> tuple[str, str]:
    """Proposals (P, 4) and their objectness (P,), best first: `model.proposals.propose`."""
    logits = graph.op("Reshape", trunk["objectness"], graph.ints(-1))
    count = min(profile.candidates, len(anchor_cells(profile, size)[0]) * profile.anchors_per_cell)
    if profile.compat.rank_by_probability:
        # `model.proposals.probability`: ONNX Runtime's Sigmoid is off by the last bits.
        one = graph.constant(1.0)
        probabilities = graph.op("Div", one, graph.op("Add", one, graph.op("Exp", graph.op("Neg", logits))))
        scores, index = graph.ops("TopK", 2, probabilities, graph.ints(count), axis=0)
    else:
        logits, index = graph.ops("TopK", 2, logits, graph.ints(count), axis=0)
        scores = graph.op("Sigmoid", logits)
    deltas = graph.op("Gather", graph.op("Reshape", trunk["anchor_deltas"], graph.ints(-1, 4)), index, axis=0)
    if set(profile.anchor_deltas_std) != {1.0}:
        deltas = graph.op("Mul", deltas, graph.constant(profile.anchor_deltas_std))
    boxes = _decode(graph, deltas, anchors_of(graph, profile, size, index))
    window = whole_image(profile, size)
    boxes = _clip(graph, boxes, graph.constant(window[:2]), graph.constant(window[2:]))
    least = graph.constant([profile.proposal_score_threshold])
    if profile.compat.joint_score:
        # The score is the objectness times a probability: what is below the threshold already will not rise above it.
        least = graph.op("Max", least, least_score)
    keep = _suppress(graph, boxes, scores, profile.proposals, profile.proposal_nms_threshold, least)
    return graph.op("Gather", boxes, keep, axis=0), graph.op("Gather", scores, keep, axis=0)


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


def _detections(
    graph: GraphWriter,
    heads: dict[str, str],
    proposals: str,
    objectness: str,
    model: MaskRCNN,
    window: tuple[str, str],
    least_score: str,
) -> tuple[str, str, str]:
    """Boxes (N, 4), scores (N,) and class_ids (N,), best first."""
    profile = model.profile
    probabilities = graph.op("Softmax", heads["class_logits"], axis=-1)
    of_classes = graph.op("Slice", probabilities, graph.ints(1), graph.ints(np.iinfo(np.int64).max), graph.ints(1))
    # CUDA has no ArgMax since opset 12, and each one would wait for the CPU.
    likeliest = graph.ops("TopK", 2, of_classes, graph.ints(1), axis=1)
    scores, class_ids = (graph.op("Squeeze", each, graph.ints(1)) for each in likeliest)
    if profile.compat.joint_score:
        scores = graph.op("Mul", scores, objectness)
    else:
        background = graph.op("Gather", probabilities, graph.constant(0, np.int64), axis=1)
        scores = graph.op("Where", graph.op("Greater", scores, background), scores, graph.constant(0.0))
    boxes = _moved(graph, proposals, heads["box_deltas"], class_ids, model, window)
    return _best(graph, (boxes, scores, class_ids), model, least_score)


def _best(
    graph: GraphWriter, detections: tuple[str, str, str], model: MaskRCNN, least_score: str
) -> tuple[str, str, str]:
    """Boxes (N, 4), scores (N,) and class_ids (N,) of which non-maximum suppression leaves some, best first."""
    profile = model.profile
    boxes, scores, class_ids = detections
    if len(model.classes) == 1:
        keep = _suppress(graph, boxes, scores, profile.max_detections, profile.nms_threshold, least_score)
    else:
        keep = _suppress_by_class(graph, boxes, scores, class_ids, model, least_score)
    return tuple(graph.op("Gather", tensor, keep, axis=0) for tensor in detections)  # type: ignore[return-value]


def _moved(
    graph: GraphWriter, boxes: str, deltas: str, class_ids: str, model: MaskRCNN, window: tuple[str, str]
) -> str:
    """Boxes (N, 4) moved as the box head answers for the class (N,) of each, inside the corners `window`."""
    profile = model.profile
    if not profile.compat.class_agnostic:
        count = graph.op("Squeeze", graph.op("Shape", class_ids), graph.ints(0))
        zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
        deltas = _of_class(graph, deltas, graph.op("Range", zero, count, one), class_ids, model, 4)
    deltas = graph.op("Mul", deltas, graph.constant(profile.box_deltas_std))
    return _clip(graph, _decode(graph, deltas, boxes), *window)


def _grow(graph: GraphWriter, boxes: str, margin: float) -> str:
    """Boxes (N, 4) that are larger on each side: `model.tighten_boxes.grow`."""
    low, high = graph.ops("Split", 2, boxes, graph.ints(2, 2), axis=1)
    more = graph.op("Mul", graph.op("Sub", high, low), graph.constant(margin))
    return graph.op("Concat", graph.op("Sub", low, more), graph.op("Add", high, more), axis=1)


def _window(graph: GraphWriter, profile: Profile, size: tuple[int, int]) -> tuple[str, str]:
    """Corners (2,) that detections stay inside."""
    if profile.compat.clip_to_content:
        return _content_window(graph, profile, size)
    window = whole_image(profile, size)
    return graph.constant(window[:2]), graph.constant(window[2:])


def _of_class(graph: GraphWriter, answers: str, rows: str, class_ids: str, model: MaskRCNN, width: int) -> str:
    """What a head answers (M, K + 1, width) in the rows (N,) for the classes (N,): `model.detect.of_class`."""
    first = graph.op("Mul", rows, graph.constant(len(model.classes) + 1, np.int64))
    places = graph.op("Add", first, graph.op("Add", class_ids, graph.constant(1, np.int64)))
    return graph.op("Gather", graph.op("Reshape", answers, graph.ints(-1, width)), places, axis=0)


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


def _content_window(graph: GraphWriter, profile: Profile, size: tuple[int, int]) -> tuple[str, str]:
    """Corners (2,) of the frame inside the image: `model.boxes.content_window`."""
    starts, ends = [], []
    for axis, side in ((2, size[1]), (1, size[0])):
        brightest = graph.op("ReduceMax", "image", axes=[3, 3 - axis], keepdims=0)  # (1, side)
        used = graph.op("Cast", graph.op("Cast", brightest, to=TensorProto.BOOL), to=TensorProto.INT32)
        before = graph.op("ArgMax", used, axis=1, keepdims=0)
        last = graph.op("ArgMax", used, axis=1, keepdims=0, select_last_index=1)
        # In a black image both are at their defaults, which makes the whole image the window.
        after = graph.op("Sub", graph.ints(side - 1), last)
        start = graph.op("Min", before, after)
        end = graph.op("Sub", graph.ints(side), graph.op("Min", after, graph.op("Add", start, graph.ints(1))))
        starts.append(start)
        ends.append(end)
    low, high = (
        graph.op("Cast", graph.op("Concat", *values, axis=0), to=TensorProto.FLOAT) for values in (starts, ends)
    )
    return low, graph.op("Sub", high, graph.constant(profile.compat.last_pixel))


def _shift_ends(graph: GraphWriter, boxes: str, profile: Profile) -> str:
    """From boxes inside the model to those of the contract, which end after their last pixel."""
    if not profile.compat.last_pixel:
        return boxes
    return graph.op("Add", boxes, graph.constant([0, 0, profile.compat.last_pixel, profile.compat.last_pixel]))


def _suppress(graph: GraphWriter, boxes: str, scores: str, most: int, overlap: float, least: str) -> str:
    """Indices (K,) int64 of the boxes above the score `least` that non-maximum suppression keeps, best first."""
    rows = graph.op(
        "NonMaxSuppression",
        graph.op("Unsqueeze", boxes, graph.ints(0)),
        graph.op("Unsqueeze", scores, graph.ints(0, 1)),
        graph.ints(most),
        graph.constant([overlap]),
        least,
    )
    return graph.op("Gather", rows, graph.constant(2, np.int64), axis=1)


def _suppress_by_class(
    graph: GraphWriter, boxes: str, scores: str, class_ids: str, model: MaskRCNN, least_score: str
) -> str:
    """As `_suppress`, each class for itself, and the best `max_detections` of all."""
    profile = model.profile
    classes = graph.constant(np.arange(len(model.classes))[:, None], np.int64)
    own = graph.op("Equal", graph.op("Unsqueeze", class_ids, graph.ints(0)), classes)  # (K, N)
    by_class = graph.op("Where", own, graph.op("Unsqueeze", scores, graph.ints(0)), graph.constant(-1.0))
    rows = graph.op(
        "NonMaxSuppression",
        graph.op("Unsqueeze", boxes, graph.ints(0)),
        graph.op("Unsqueeze", by_class, graph.ints(0)),
        graph.ints(profile.max_detections),
        graph.constant([profile.nms_threshold]),
        least_score,
    )
    keep = graph.op("Gather", rows, graph.constant(2, np.int64), axis=1)
    count = graph.op("Min", graph.op("Shape", keep), graph.ints(profile.max_detections))
    best = graph.ops("TopK", 2, graph.op("Gather", scores, keep, axis=0), count, axis=0)[1]
    return graph.op("Gather", keep, best, axis=0)


def _pool(
    graph: GraphWriter,
    pyramid: list[str],
    boxes: str,
    profile: Profile,
    pool: int,
    size: tuple[int, int],
    multiple: str,
) -> tuple[str, str]:
    """RoIAlign of boxes (N, 4): features (M, C, pool, pool), and the row of each box in them (N,).

    The boxes are put in the order of their levels; gathering features instead would copy far more. M is the next
    `multiple` of N, boxes without area being added.
    """
    count = graph.op("Shape", boxes, end=1)
    more = graph.op("Mod", graph.op("Neg", count), multiple)
    boxes = graph.op("Pad", boxes, graph.op("Concat", graph.ints(0, 0), more, graph.ints(0), axis=0))
    areas = _areas(graph, boxes)
    levels = len(pyramid)
    level_size = roi_level_size(profile, size)
    limits = [(level_size / 2**step) ** 2 for step in range(levels - 1, -1, -1)]
    features, order = [], []
    for level, (feature, stride) in enumerate(zip(pyramid, profile.strides, strict=False)):
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
        rois, scale = graph.op("Gather", boxes, rows, axis=0), 1.0 / stride
        if profile.compat.roi_corners:
            rois, scale = _grown(graph, rois, pool, stride, size), 1.0
        features.append(
            graph.op(
                "RoiAlign",
                feature,
                rois,
                image_numbers,
                mode="avg",
                output_height=pool,
                output_width=pool,
                sampling_ratio=profile.roi_sampling_ratio,
                spatial_scale=scale,
                coordinate_transformation_mode="half_pixel",
            )
        )
        order.append(rows)
    places = _inverse_permutation(graph, graph.op("Concat", *order, axis=0))
    return graph.op("Concat", *features, axis=0), graph.op("Slice", places, graph.ints(0), count)


def _grown(graph: GraphWriter, boxes: str, pool: int, stride: int, size: tuple[int, int]) -> str:
    """RoIs (N, 4) in cells, whose cells' middles are the samples of `model.roi_align.crop_and_resize`."""
    cells = [(side // stride - 1) / (side - 1) for side in (size[1], size[0])]
    low, high = graph.ops("Split", 2, graph.op("Mul", boxes, graph.constant(cells * 2)), graph.ints(2, 2), axis=1)
    margin = graph.op("Mul", graph.op("Sub", high, low), graph.constant(0.5 / (pool - 1)))
    half = graph.constant(0.5)  # RoiAlign takes it off again
    return graph.op(
        "Concat",
        graph.op("Add", graph.op("Sub", low, margin), half),
        graph.op("Add", graph.op("Add", high, margin), half),
        axis=1,
    )


def _areas(graph: GraphWriter, boxes: str) -> str:
    low, high = graph.ops("Split", 2, boxes, graph.ints(2, 2), axis=1)
    width, height = graph.ops("Split", 2, graph.op("Sub", high, low), graph.ints(1, 1), axis=1)
    return graph.op("Squeeze", graph.op("Mul", width, height), graph.ints(1))


def _inverse_permutation(graph: GraphWriter, order: str) -> str:
    """Where each number 0..N-1 stands in `order`: the indices that sort it."""
    return graph.ops("TopK", 2, order, graph.op("Shape", order), axis=0, largest=0)[1]
