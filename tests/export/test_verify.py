"""The comparison of a file with Keras: when both agree, and what the message says when they do not."""

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pumpseg_export.assemble import assemble
from pumpseg_export.metadata import describe, write_model
from pumpseg_export.verify import FLOAT32, Agreement, Difference, compare, verify
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


def written(graph, model, path):
    write_model(graph, describe(model, (64, 128)), path)
    return path


@pytest.mark.parametrize("part", ["trunk/", "box_head/", "mask_head/"])
def test_a_file_with_other_weights_differs(part, wide_graph, three_classes, photos, tmp_path):
    file = written(perturbed(wide_graph, part), three_classes, tmp_path / "other.onnx")
    agreement = verify(file, three_classes, photos, FLOAT32)
    assert not agreement.sufficient
    assert agreement.own < 0.1, "these weights are well-conditioned"
    assert re.match(r"\d+ of \d+ detections on 2 photos differ from Keras", str(agreement))
    assert re.search(r"the file differs by \d+%, Keras from itself by \d+% when its weights change", str(agreement))


@pytest.fixture
def near_ties(three_classes):
    """That model with an objectness that is nearly the same everywhere, so that rounding decides on the proposals."""
    layer = three_classes.trunk.get_layer("rpn_objectness")
    kernel, bias = weights = layer.get_weights()
    layer.set_weights([kernel * 5e-7, np.full_like(bias, 3)])
    yield three_classes
    layer.set_weights(weights)


def test_near_ties_are_distinguished_from_a_wrong_conversion(near_ties, tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (8, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]
    frames = [(f"noise {number}", image) for number, image in enumerate(noise)]
    graph = assemble(near_ties, (64, 128))
    before = [np.array(weight) for weight in near_ties.trunk.weights]
    agreement = verify(written(graph, near_ties, tmp_path / "right.onnx"), near_ties, frames, FLOAT32)
    assert agreement.differing_share > 0.02
    assert agreement.near_ties
    assert agreement.sufficient
    assert "the others are near-ties: the file differs by" in str(agreement)
    assert all((old == np.array(new)).all() for old, new in zip(before, near_ties.trunk.weights, strict=True))

    wrong = written(perturbed(graph, "box_head/"), near_ties, tmp_path / "wrong.onnx")
    agreement = verify(wrong, near_ties, frames, FLOAT32)
    assert not agreement.sufficient


def test_where_rounding_decides_on_most_detections_nothing_is_proved():
    near, far = Difference(0, 0, 0, (1, 2, 3, 4)), Difference(9, 0, 0, (1, 2, 3, 4))
    assert Agreement(1, (near,) * 7 + (far,) * 3, FLOAT32, own=0.3).sufficient
    assert not Agreement(1, (near,) * 5 + (far,) * 5, FLOAT32, own=0.3).sufficient
    assert not Agreement(1, (near,) * 7 + (far,) * 3, FLOAT32, own=0.6).sufficient
    assert not Agreement(1, (near,) * 7 + (far,) * 3, FLOAT32).sufficient


def test_comparing_nothing_is_no_agreement(wide_graph, three_classes, tmp_path):
    agreement = verify(written(wide_graph, three_classes, tmp_path / "wide.onnx"), three_classes, [], FLOAT32)
    assert not agreement.sufficient
    assert str(agreement).startswith("nothing was detected on 0 photos")
