"""The assembled graph: what it consists of, and that it finds what Keras finds."""

import dataclasses

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from pumpseg import Segmenter
from pumpseg.inference.letterbox import letterbox
from pumpseg_export.assemble import anchors_of, assemble
from pumpseg_export.graph import GraphWriter
from pumpseg_export.metadata import describe, write_model
from pumpseg_export.verify import FLOAT32, verify
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.model.boxes import anchors
from pumpseg_train.model.profile import EDGE, MATTERPORT_RESNET101


def test_the_file_has_only_plain_operators(tiny_onnx):
    model = onnx.load(tiny_onnx)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Loop", "If", "Scan", "Unique"}
    assert not [kind for kind in kinds if kind.startswith("Sequence") or kind == "SetOperation"]
    assert {"RoiAlign", "NonMaxSuppression", "TopK"} <= kinds
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert not model.functions


@pytest.mark.parametrize("profile", [EDGE, MATTERPORT_RESNET101], ids=lambda profile: profile.name)
def test_the_graph_adds_up_the_anchors_of_keras(profile):
    size = (128, 192)
    wanted = anchors(profile, size)
    graph = GraphWriter()
    boxes = graph.model(
        "anchors",
        [helper.make_tensor_value_info("index", onnx.TensorProto.INT64, ["N"])],
        {
            "boxes": (
                anchors_of(graph, profile, size, "index"),
                helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, ["N", 4]),
            )
        },
    )
    session = onnxruntime.InferenceSession(boxes.SerializeToString(), providers=["CPUExecutionProvider"])
    index = np.random.default_rng(0).permutation(len(wanted))
    assert np.array_equal(session.run(None, {"index": index})[0], wanted[index])


def test_the_box_head_is_pooled_from_maps_with_few_channels(tiny_onnx):
    graph = onnx.shape_inference.infer_shapes(onnx.load(tiny_onnx)).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    pooled: dict[int, set[int]] = {}
    for node in graph.node:
        if node.op_type == "RoiAlign":
            (side,) = (attribute.i for attribute in node.attribute if attribute.name == "output_height")
            pooled.setdefault(side, set()).add(shapes[node.input[0]][1].dim_value)
    assert pooled[EDGE.box_pool] == {EDGE.box_channels}
    assert pooled[EDGE.mask_pool] == {EDGE.fpn_channels}


def test_inputs_and_outputs_are_those_of_the_contract(tiny_onnx):
    graph = onnx.load(tiny_onnx).graph

    def described(values):
        return {
            value.name: (
                onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
                [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim],
            )
            for value in values
        }

    assert described(graph.input) == {
        "image": ("UINT8", [1, 96, 96, 3]),
        "score_threshold": ("FLOAT", [1]),
        "rois_multiple": ("INT64", [1]),
    }
    left_out = {tensor.name for tensor in graph.initializer}
    assert {"score_threshold", "rois_multiple"} <= left_out, "so that they may be left out"
    assert described(graph.output) == {
        "boxes": ("FLOAT", ["N", 4]),
        "scores": ("FLOAT", ["N"]),
        "class_ids": ("INT64", ["N"]),
        "masks": ("FLOAT", ["N", 28, 28]),
    }


def test_a_file_for_several_classes_and_a_wide_picture_agrees_with_keras(
    wide_graph, three_classes, photos, wide_image, run_graph, tmp_path
):
    write_model(wide_graph, describe(three_classes, (64, 128)), tmp_path / "wide.onnx")
    agreement = verify(
        tmp_path / "wide.onnx", three_classes, [(path.name, read_frame(path)) for path in photos], FLOAT32
    )
    assert agreement.frames == len(photos)
    assert len(agreement.differences) > 20
    found = run_graph(wide_graph, wide_image)
    assert {0, 2} <= set(found["class_ids"]) <= {0, 1, 2}
    assert found["boxes"].min() >= 0
    assert (found["boxes"].max(axis=0) <= (128, 64, 128, 64)).all()
    assert found["boxes"][:, 2].max() > 64, "the width is not taken for the height"
    assert (np.diff(found["scores"]) <= 0).all(), "best first"
    assert len(found["boxes"]) <= three_classes.profile.max_detections


def with_threshold(graph, number, value):
    """A copy whose non-maximum suppression `number` (0: proposals, 1: detections) needs the score `value`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    suppressions = [node for node in copy.graph.node if node.op_type == "NonMaxSuppression"]
    assert len(suppressions) == 2
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    made_by = {name: node for node in copy.graph.node for name in node.output}
    name = suppressions[number].input[4]
    # That of the proposals is the greater of their own and that of the detections.
    threshold = constants[made_by[name].input[0] if name in made_by else name]
    threshold.CopyFrom(numpy_helper.from_array(np.array([value], np.float32), threshold.name))
    return copy


@pytest.mark.parametrize(("number", "value"), [(0, 1e9), (1, 2.0)], ids=["no proposals", "no detections"])
def test_nothing_found_gives_empty_outputs(wide_graph, wide_image, run_graph, number, value):
    found = run_graph(with_threshold(wide_graph, number, value), wide_image)
    assert {name: array.shape for name, array in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "class_ids": (0,),
        "masks": (0, 28, 28),
    }


def test_a_higher_threshold_gives_the_first_rows_alone(three_classes, wide_graph, wide_image, run_graph):
    everything = run_graph(wide_graph, wide_image)
    scores = everything["scores"]
    session = onnxruntime.InferenceSession(wide_graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (0, 1, len(scores) // 2, len(scores)):
        threshold = scores[count] if count < len(scores) else three_classes.profile.score_threshold
        found = session.run(None, {"image": wide_image, "score_threshold": np.array([threshold], np.float32)})
        for output, array in zip(session.get_outputs(), found, strict=True):
            np.testing.assert_allclose(array, everything[output.name][:count], atol=1e-4)


def test_one_class_has_a_threshold_too(tiny_onnx, photos, run_graph):
    image = letterbox(read_frame(photos[0]), (96, 96), swap_red_blue=True)[0][None]
    everything = run_graph(tiny_onnx, image)
    count = len(everything["scores"]) // 2
    session = onnxruntime.InferenceSession(str(tiny_onnx), providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {"image": image, "score_threshold": everything["scores"][count : count + 1]})
    assert count > 0
    np.testing.assert_allclose(found[0], everything["scores"][:count], atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_heads_run_on_a_multiple_and_find_the_same(wide_graph, wide_image, run_graph, count):
    scores = run_graph(wide_graph, wide_image)["scores"]
    probe = with_threshold(wide_graph, 1, float(scores[count : count + 2].mean()) if count else 2.0)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in probe.graph.initializer}
    rois = [node.output[0] for node in probe.graph.node if node.op_type == "Pad" and node.input[1] not in constants]
    assert len(rois) == 2, "of the box head and the mask head"
    probe.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in rois)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    *plain, proposals, detections = session.run(None, {"image": wide_image})
    assert len(detections) == count + 1 if count else len(detections) == 0
    *padded, more_proposals, more_detections = session.run(
        None, {"image": wide_image, "rois_multiple": np.array([7], np.int64)}
    )
    assert len(more_proposals) == -(-len(proposals) // 7) * 7
    assert len(more_detections) == -(-len(detections) // 7) * 7
    for array, wanted in zip(padded, plain, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_a_single_detection_keeps_its_axis(wide_graph, wide_image, run_graph):
    scores = run_graph(wide_graph, wide_image)["scores"]
    found = run_graph(with_threshold(wide_graph, 1, float(scores[:2].mean())), wide_image)
    assert found["boxes"].shape == (1, 4)
    assert found["masks"].shape == (1, 28, 28)


def test_each_mask_belongs_to_its_box(three_classes, wide_image, run_graph):
    """Boxes are pooled level by level, so masks have to be put back into the order of the boxes."""
    # Boxes of these loud heads are small.
    profile = dataclasses.replace(three_classes.profile, mask_margin=0.0, roi_level_size=14.0)
    wide_graph = assemble(dataclasses.replace(three_classes, profile=profile), (64, 128))
    everything = run_graph(wide_graph, wide_image)
    sides = np.sqrt(np.prod(everything["boxes"][:, 2:] - everything["boxes"][:, :2], axis=1))
    assert {0, 1, 2} == {int(side >= 7) + int(side >= 14) for side in sides}, "boxes of all three levels"
    few = run_graph(with_threshold(wide_graph, 1, float(everything["scores"][4:6].mean())), wide_image)
    assert len(few["masks"]) == 5
    assert np.allclose(few["masks"], everything["masks"][:5], atol=1e-5)
    assert not np.allclose(few["masks"][0], few["masks"][1], atol=1e-4)


def test_the_segmenter_opens_the_file(tiny_onnx, photos):
    segmenter = Segmenter(tiny_onnx, provider="cpu", threads=1, threshold=0.0)
    assert segmenter.info.class_names == ("pumpkin",)
    assert segmenter.info.input_size == (96, 96)
    found = segmenter(cv2.imread(str(photos[0])))
    assert len(found) > 0
    assert found.masks.shape == (len(found), 120, 160)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
