"""Tightens boxes to their masks, as `pumpseg_train.model.tighten_boxes` does."""

import numpy as np
from onnx import TensorProto

from pumpseg_export.graph import GraphWriter
from pumpseg_train.model.tighten_boxes import MIN_SIZE, THRESHOLD


def tighten_to_masks(
    graph: GraphWriter, masks: str, seen: str, boxes: str, side: int, rows: int | str = "N"
) -> tuple[str, str]:
    """Boxes (N, 4) tightened to the masks (N, M, M) of the boxes `seen`, and these masks: `model.tighten_boxes`.

    rows: N where it is always the same.
    """
    left, right = _ends(graph, graph.op("ReduceMax", masks, axes=[1], keepdims=0), side)
    top, bottom = _ends(graph, graph.op("ReduceMax", masks, axes=[2], keepdims=0), side)
    low, high = graph.ops("Split", 2, seen, graph.ints(2, 2), axis=1)
    size = graph.op("Sub", high, low)
    origin, cells = (graph.op("Concat", pair, pair, axis=1) for pair in (low, size))
    unit = graph.op("Div", cells, graph.constant(side))
    ends = graph.op("Concat", left, top, right, bottom, axis=1)
    closed = graph.op("Add", origin, graph.op("Mul", ends, unit))
    likeliest = graph.op("ReduceMax", masks, axes=[1, 2], keepdims=0)
    found = graph.op("Unsqueeze", graph.op("Greater", likeliest, graph.constant(THRESHOLD)), graph.ints(1))
    closed = graph.op("Where", found, closed, boxes)
    divisor = graph.op("Max", cells, graph.constant(MIN_SIZE))
    rois = graph.op("Mul", graph.op("Div", graph.op("Sub", closed, origin), divisor), graph.constant(side))
    if isinstance(rows, int):
        numbers = graph.ints(*range(rows))
    else:
        count = graph.op("Squeeze", graph.op("Shape", likeliest), graph.ints(0))
        numbers = graph.op("Range", graph.constant(0, np.int64), count, graph.constant(1, np.int64))
    maps = graph.op("Unsqueeze", masks, graph.ints(1))
    inside = graph.op(
        "RoiAlign",
        maps,
        rois,
        numbers,
        mode="avg",
        output_height=side,
        output_width=side,
        sampling_ratio=1,
        coordinate_transformation_mode="half_pixel",
    )
    return closed, graph.op("Squeeze", inside, graph.ints(1))


def _ends(graph: GraphWriter, line: str, side: int) -> tuple[str, str]:
    """Where lines (N, M) of probabilities pass THRESHOLD first and last, each (N, 1), in cells."""
    padded = graph.op("Pad", line, graph.ints(0, 1, 0, 1), graph.constant(0.0))
    above = graph.op("Cast", graph.op("Greater", padded, graph.constant(THRESHOLD)), to=TensorProto.FLOAT)
    one, half = graph.constant(1, np.int64), graph.constant(0.5)

    def furthest(distances: np.ndarray) -> str:
        # Not ArgMax: CUDA has none since opset 12, and each one would wait for the CPU.
        far = graph.op("ReduceMax", graph.op("Mul", above, graph.constant(distances)), axes=[1], keepdims=1)
        return graph.op("Cast", far, to=TensorProto.INT64)

    cells = np.arange(side + 2)
    last = graph.op("Max", furthest(cells), one)
    first = graph.op("Sub", graph.constant(side + 1, np.int64), furthest(cells[::-1]))

    def beyond(inner: str, outer: str) -> str:
        high, low = (graph.op("GatherElements", padded, place, axis=1) for place in (inner, outer))
        return graph.op("Div", graph.op("Sub", high, graph.constant(THRESHOLD)), graph.op("Sub", high, low))

    start, end = (graph.op("Sub", graph.op("Cast", place, to=TensorProto.FLOAT), half) for place in (first, last))
    start = graph.op("Sub", start, beyond(first, graph.op("Sub", first, one)))
    end = graph.op("Add", end, beyond(last, graph.op("Add", last, one)))
    return graph.op("Max", start, graph.constant(0.0)), graph.op("Min", end, graph.constant(side))
