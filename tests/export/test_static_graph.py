"""The graph with fixed shapes: the same detections as the dynamic one, and no shape that an image decides."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, shape_inference

from pumpseg.errors import PumpsegError
from pumpseg_export.assemble import assemble
from pumpseg_export.static_graph import assemble_static
from pumpseg_train.model.network import build_mask_rcnn


@pytest.fixture(scope="module")
def static_graph(three_classes):
    return assemble_static(three_classes, (64, 128))


def used(found):
    count = np.count_nonzero(found["scores"])
    return {name: array[:count] for name, array in found.items()}


def test_the_detections_are_those_of_the_dynamic_graph(static_graph, wide_graph, pictures, wide_image, run_graph):
    total = 0
    for image in (wide_image, *pictures):
        wanted, found = run_graph(wide_graph, image), used(run_graph(static_graph, image))
        assert len(found["scores"]) == len(wanted["scores"])
        assert np.array_equal(found["class_ids"], wanted["class_ids"])
        for name in ("boxes", "scores", "masks"):
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-3)
        total += len(wanted["scores"])
    assert total > 50


def test_one_class_gives_the_same_too(pictures, tiny_model, run_graph):
    model = dataclasses.replace(tiny_model, classes=("pumpkin",))
    profile = dataclasses.replace(model.profile, input_size=(64, 128))
    one = build_mask_rcnn(profile, model.classes)
    one.box_head.get_layer("class_logits").set_weights([np.full((256, 2), 0.1) * [-1, 1], np.zeros(2)])
    found = used(run_graph(assemble_static(one, (64, 128)), pictures[0]))
    wanted = run_graph(assemble(one, (64, 128)), pictures[0])
    assert len(wanted["scores"])
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-3)


def test_unused_rows_come_last_with_score_0(static_graph, three_classes, wide_image, run_graph):
    found = run_graph(static_graph, wide_image)
    rows = three_classes.profile.max_detections
    assert {name: array.shape for name, array in found.items()} == {
        "boxes": (rows, 4),
        "scores": (rows,),
        "class_ids": (rows,),
        "masks": (rows, 28, 28),
    }
    assert (np.diff(found["scores"]) <= 0).all()
    assert all(np.isfinite(array).all() for array in found.values())


def test_a_threshold_above_all_scores_leaves_nothing(static_graph, wide_image):
    session = onnxruntime.InferenceSession(static_graph.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"image": wide_image, "score_threshold": np.array([1.0], np.float32)}
    assert not session.run(["scores"], inputs)[0].any()


def test_no_shape_depends_on_the_image(static_graph):
    kinds = {node.op_type for node in static_graph.graph.node}
    assert not kinds & {"NonMaxSuppression", "NonZero", "Loop", "If", "Scan", "Unique", "Compress"}
    inferred = shape_inference.infer_shapes(static_graph, strict_mode=True, data_prop=True).graph
    for tensor in (*inferred.value_info, *inferred.output):
        sides = tensor.type.tensor_type.shape.dim
        assert all(side.HasField("dim_value") for side in sides), f"{tensor.name} has an open side"


def test_the_file_is_not_larger_for_it(static_graph, wide_graph):
    assert static_graph.ByteSize() < 1.05 * wide_graph.ByteSize()
    sizes = [numpy_helper.to_array(tensor).nbytes for tensor in static_graph.graph.initializer]
    assert max(sizes) <= max(numpy_helper.to_array(tensor).nbytes for tensor in wide_graph.graph.initializer)


def test_other_profiles_are_refused(narrow_matterport):
    model = dataclasses.make_dataclass("Model", ["profile"])(narrow_matterport)
    with pytest.raises(PumpsegError, match="no static graph of the profile matterport-resnet50"):
        assemble_static(model, (128, 128))


def test_the_file_says_its_opset(static_graph):
    assert [(opset.domain, opset.version) for opset in static_graph.opset_import] == [("", 17)]
    onnx.checker.check_model(static_graph, full_check=True)
