"""The comparison of a file with Keras: when both agree, and what the message says when they do not."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pumpseg_export.metadata import describe, write_model
from pumpseg_export.verify import FLOAT32, Agreement, Difference, VerificationError, compare, verify
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame


def detections(*rows):
    """(x of a 10 pixel box, score, class_id, mask value) of each."""
    return {
        "boxes": np.array([[x, 0, x + 10, 10] for x, *_ in rows], np.float32).reshape(-1, 4),
        "scores": np.array([score for _, score, *_ in rows], np.float32),
        "class_ids": np.array([class_id for *_, class_id, _ in rows], np.int64),
        "masks": np.array([np.full((4, 4), value) for *_, value in rows], np.float32).reshape(-1, 4, 4),
    }


def distances(*arguments):
    return [[difference.box, difference.score, difference.mask] for difference in compare(*arguments)]


def test_the_order_does_not_matter():
    some = detections((0, 0.9, 0, 0.1), (50, 0.8, 1, 0.2))
    others = detections((50, 0.8, 1, 0.2), (0, 0.9, 0, 0.1))
    assert np.allclose(distances(some, others, 0.05), 0)


def test_distances_are_those_of_box_score_and_mask():
    rows = distances(detections((0, 0.9, 0, 0.1)), detections((40, 0.9, 0, 0.1), (2, 0.7, 0, 0.4)), 0.05)
    assert np.allclose(rows, [[2, 0.2, 0.3]])


def test_a_detection_of_another_class_or_none_at_all_is_infinitely_far():
    assert np.isinf(distances(detections((0, 0.9, 0, 0.1)), detections((0, 0.9, 1, 0.1)), 0.05)).all()
    assert np.isinf(distances(detections((0, 0.9, 0, 0.1)), detections(), 0.05)).all()


def test_detections_below_the_lowest_score_are_left_out():
    assert compare(detections((0, 0.0505, 0, 0.1)), detections(), 0.051) == []


def test_the_message_says_how_far_detections_differ_and_where():
    near, far = Difference(0.01, 0, 0, (1, 2, 3, 4), "a.png"), Difference(7.25, 0.01, 0.002, (10, 20, 30, 40), "b.png")
    lost = Difference(np.inf, np.inf, np.inf, (5, 6, 7, 8), "c.png")
    agreement = Agreement(3, (near,) * 97 + (far, lost, far), FLOAT32)
    assert not agreement.sufficient
    assert str(agreement) == (
        "3 of 100 detections on 3 photos differ from Keras by more than 0.05 px, score 0.001 or mask 0.001 (2% may): "
        "one at 5, 6, 7, 8 in c.png has no counterpart; one at 10, 20, 30, 40 in b.png by 7.25 px, score 0.01 and mask "
        "0.002"
    )
    agreement = Agreement(3, (near,) * 98 + (far, lost), FLOAT32)
    assert agreement.sufficient
    assert str(agreement) == (
        "98 of 100 detections on 3 photos agree with Keras (differing by at most 0.01 px, score 0, mask 0)"
    )


@pytest.fixture(scope="module")
def photos(fruit):
    return [(photo.path.name, read_frame(photo.path)) for photo in read_dataset(fruit, "val").photos]


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
    description = describe(three_classes, (64, 128))
    write_model(perturbed(wide_graph, part), description, tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match=r"\d+ of \d+ detections on 2 photos differ from Keras"):
        verify(tmp_path / "other.onnx", three_classes, photos, FLOAT32)


def test_comparing_nothing_is_no_agreement(wide_graph, three_classes, tmp_path):
    write_model(wide_graph, describe(three_classes, (64, 128)), tmp_path / "wide.onnx")
    with pytest.raises(VerificationError, match="nothing was detected on 0 photos"):
        verify(tmp_path / "wide.onnx", three_classes, [], FLOAT32)
