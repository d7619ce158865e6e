"""The comparison of a file with Keras: it tells agreement from disagreement."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pumpseg_export.export import describe
from pumpseg_export.metadata import write_model
from pumpseg_export.verify import FLOAT32, VerificationError, compare, verify
from pumpseg_train.dataset.annotations import read_dataset


def detections(*rows):
    """(x of a 10 pixel box, score, class_id, mask value) of each."""
    return {
        "boxes": np.array([[x, 0, x + 10, 10] for x, *_ in rows], np.float32).reshape(-1, 4),
        "scores": np.array([score for _, score, *_ in rows], np.float32),
        "class_ids": np.array([class_id for *_, class_id, _ in rows], np.int64),
        "masks": np.array([np.full((4, 4), value) for *_, value in rows], np.float32).reshape(-1, 4, 4),
    }


def test_the_order_does_not_matter():
    some = detections((0, 0.9, 0, 0.1), (50, 0.8, 1, 0.2))
    others = detections((50, 0.8, 1, 0.2), (0, 0.9, 0, 0.1))
    assert np.allclose(compare(some, others, 0.05), 0)


def test_distances_are_those_of_box_score_and_mask():
    rows = compare(detections((0, 0.9, 0, 0.1)), detections((40, 0.9, 0, 0.1), (2, 0.7, 0, 0.4)), 0.05)
    assert np.allclose(rows, [[2, 0.2, 0.3]])


def test_a_detection_of_another_class_or_none_at_all_is_infinitely_far():
    assert np.isinf(compare(detections((0, 0.9, 0, 0.1)), detections((0, 0.9, 1, 0.1)), 0.05)).all()
    assert np.isinf(compare(detections((0, 0.9, 0, 0.1)), detections(), 0.05)).all()


def test_detections_at_the_threshold_are_not_asked_for():
    assert compare(detections((0, 0.0505, 0, 0.1)), detections(), 0.051) == []


@pytest.fixture(scope="module")
def photos(fruit):
    return [photo.path for photo in read_dataset(fruit, "val").photos]


def perturbed(graph, part):
    """A copy with one large weight tensor of `part` changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    tensors = [t for t in copy.graph.initializer if t.name.startswith(part) and len(t.dims) >= 2]
    tensor = max(tensors, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.05), tensor.name))
    return copy


@pytest.mark.parametrize("part", ["trunk/", "box_head/", "mask_head/"])
def test_a_file_with_other_weights_is_refused(part, wide_graph, three_classes, photos, tmp_path):
    description = describe(three_classes, (64, 128), {}, "", "")
    write_model(perturbed(wide_graph, part), description, tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match=r"\d+ of \d+ detections in 2 photos differ from Keras"):
        verify(tmp_path / "other.onnx", three_classes, photos, FLOAT32)


def test_comparing_nothing_is_no_agreement(wide_graph, three_classes, tmp_path):
    write_model(wide_graph, describe(three_classes, (64, 128), {}, "", ""), tmp_path / "wide.onnx")
    with pytest.raises(VerificationError, match="nothing was detected in 0 photos"):
        verify(tmp_path / "wide.onnx", three_classes, [], FLOAT32)
