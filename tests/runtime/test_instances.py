import sys

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pumpseg.drawing import draw
from pumpseg.errors import PumpsegError, SinkError
from pumpseg.instances import UNCONFIRMED, Instances
from pumpseg.masks.paste import CellMasks
from pumpseg.masks.polygons import trace


@given(st.tuples(*[st.floats(-5, 25, width=32)] * 2), st.floats(0, 0.99), st.floats(0, 0.99))
@example((-0.5, 0.0), 0.75, 0.5)  # its only pixel centre is outside the frame
def test_a_box_smaller_than_a_pixel_gives_the_pixel_under_it(corner, width, height):
    box = np.array([corner[0], corner[1], corner[0] + width, corner[1] + height], np.float32)
    instances = Instances.in_frame(
        box[None],
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
        np.ones((1, 4, 4), np.float32),
        (20, 20),
        ["a"],
    )
    if len(instances):
        assert instances.areas[0] >= 1
        assert instances.masks.sum() == instances.areas[0]
        assert instances.to_rle()[0]["size"] == [20, 20]


def some_instances(count=3, frame_size=(60, 80)):
    rng = np.random.default_rng(7)
    corner = rng.uniform(-10, 50, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(11, 60, (count, 2))], 1).astype(np.float32)
    return Instances.in_frame(
        boxes,
        np.linspace(0.9, 0.3, count, dtype=np.float32),
        np.arange(count) % 2,
        rng.random((count, 28, 28), np.float32),
        frame_size,
        ["pumpkin", "squash"],
    )


def test_all_views_of_a_mask_agree():
    instances = some_instances()
    masks = instances.masks
    assert masks.shape == (3, 60, 80)
    assert masks.dtype == bool
    np.testing.assert_array_equal(instances.areas, masks.sum((1, 2)))
    for mask, rle, crop in zip(masks, instances.to_rle(), instances.crop_masks, strict=True):
        np.testing.assert_array_equal(coco.decode(rle).astype(bool), mask)
        assert crop.mask.sum() == mask.sum()


def test_boxes_are_clipped_and_masks_keep_their_scale():
    cells = np.zeros((1, 4, 4), np.float32)
    cells[0, :, 2:] = 1
    box = np.array([[-10, 0, 10, 20]], np.float32)
    instances = Instances.in_frame(box, np.ones(1, np.float32), np.zeros(1, np.int64), cells, (20, 20), ["pumpkin"])
    np.testing.assert_array_equal(instances.boxes, [[0, 0, 10, 20]])
    # The right half of the unclipped box is set: x from 0 on, all that is left of it.
    assert instances.masks[0, :, :10].all()


def test_boxes_outside_the_frame_or_not_finite_are_left_out():
    boxes = np.array([[30, 0, 40, 10], [-5, -5, 0, 0], [np.nan, 0, 1, 1], [0, 0, np.inf, 5], [1, 1, 5, 5]])
    instances = Instances.in_frame(
        boxes.astype(np.float32),
        np.arange(5, dtype=np.float32),
        np.zeros(5, np.int64),
        np.ones((5, 4, 4), np.float32),
        (20, 20),
        ["a"],
    )
    assert instances.scores.tolist() == [4]


def test_indexing_gives_instances():
    instances = some_instances()
    assert instances[1].labels == ("squash",)
    assert instances[-1].scores[0] == instances.scores[2]
    assert len(instances[instances.scores > 0.5]) == 2
    assert len(instances[[2, 0]]) == 2
    assert len(instances[1:]) == 2
    assert len(instances[[]]) == 0
    assert [len(one) for one in instances] == [1, 1, 1]
    np.testing.assert_array_equal(instances[2].masks[0], instances.masks[2])
    with pytest.raises(IndexError):
        instances[3]


def test_no_instances():
    nothing = Instances.empty((48, 64), ["pumpkin"])
    assert len(nothing) == 0
    assert nothing.masks.shape == (0, 48, 64)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.to_rle() == []
    assert nothing.areas.shape == (0,)
    assert nothing[nothing.scores > 0.5].labels == ()


def test_arrays_that_do_not_belong_together_are_refused():
    boxes, class_ids = np.zeros((2, 4), np.float32), np.zeros(2, np.int64)
    cells = CellMasks(np.zeros((2, 4, 4), np.float32), boxes)
    with pytest.raises(ValueError, match="scores has the shape"):
        Instances(boxes, np.zeros(1, np.float32), class_ids, cells, (4, 4), ("a",))
    with pytest.raises(ValueError, match="there are 2 boxes and 1 masks"):
        Instances(boxes, np.zeros(2, np.float32), class_ids, cells[:1], (4, 4), ("a",))


def with_ids(instances):
    return instances.with_track_ids(np.array([7, UNCONFIRMED, 2][: len(instances)]))


def test_coco_results_carry_numbers_and_ids():
    instances = with_ids(some_instances())
    results = instances.to_coco(12, {"pumpkin": 5, "squash": 9})
    assert [(r["image_id"], r["category_id"], r.get("track_id")) for r in results] == [
        (12, 5, 7),
        (12, 9, None),
        (12, 5, 2),
    ]
    assert [r["category_id"] for r in some_instances().to_coco()] == [1, 2, 1]
    for result, mask, box in zip(results, instances.masks, instances.boxes, strict=True):
        np.testing.assert_array_equal(coco.decode(result["segmentation"]).astype(bool), mask)
        np.testing.assert_allclose(result["bbox"], [*box[:2], *(box[2:] - box[:2])], atol=0.0051)
    with pytest.raises(ValueError, match="no category for the class squash"):
        instances.to_coco(1, {"pumpkin": 1})


def test_polygons_of_every_mask():
    instances = some_instances()
    assert [len(pieces) for pieces in instances.to_polygons()] == [len(trace(mask)) for mask in instances.masks]
    assert any(piece.holes for pieces in instances.to_polygons() for piece in pieces)
    assert Instances.empty((10, 10)).to_polygons() == []


def test_masks_are_pasted_once_and_kept_by_what_is_taken_from_them(monkeypatch):
    instances = some_instances()
    assert instances.masks is instances.masks
    crops = instances.crop_masks
    monkeypatch.setattr(CellMasks, "paste", None)
    assert instances[[2, 0]].crop_masks == (crops[2], crops[0])
    assert instances[1].with_track_ids(np.array([4]))[:].crop_masks == (crops[1],)
    assert [one.crop_masks for one in instances] == [(crop,) for crop in crops]


def test_instances_say_what_they_are():
    instances = some_instances()
    shown = ", ".join(f"{label} {score:.2f}" for label, score in zip(instances.labels, instances.scores, strict=True))
    assert repr(instances) == f"Instances(3: {shown})"
    assert repr(Instances.empty((4, 4))) == "Instances(0)"
    assert repr(instances[[0] * 7]).endswith(", ...)")


def test_parts_of_a_frame_are_joined():
    instances = some_instances()
    joined = Instances.concatenate([instances[1:], with_ids(instances)[:1]])
    assert joined.labels == (*instances.labels[1:], instances.labels[0])
    assert joined.track_ids is None
    np.testing.assert_array_equal(joined.masks, instances.masks[[1, 2, 0]])


def test_ids_of_single_instances():
    instances = some_instances()
    assert [instances.track_id(i) for i in range(3)] == [None] * 3
    assert [with_ids(instances).track_id(i) for i in range(3)] == [7, None, 2]


def test_instances_are_drawn_and_saved(tmp_path):
    instances = some_instances()
    frame = np.full((*instances.frame_size, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    drawn = instances.draw(frame, color="class", labels=False)
    np.testing.assert_array_equal(drawn, draw(frame, instances, False, color="class"))
    instances.save(tmp_path / "a.png", tmp_path / "frame.png", color="class", labels=False)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), drawn)
    with pytest.raises(SinkError, match=r"\.txt is not an image format"):
        instances.save(tmp_path / "a.txt", frame)


def test_supervision_detections():
    supervision = pytest.importorskip("supervision", reason='needs pip install "pumpseg[supervision]"')
    instances = with_ids(some_instances())
    detections = instances.to_supervision()
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.xyxy, instances.boxes)
    np.testing.assert_array_equal(detections.mask, instances.masks)
    np.testing.assert_array_equal(detections.confidence, instances.scores)
    np.testing.assert_array_equal(detections.class_id, instances.class_ids)
    np.testing.assert_array_equal(detections.tracker_id, instances.track_ids)
    assert detections["class_name"].tolist() == ["pumpkin", "squash", "pumpkin"]
    assert len(detections[detections.confidence > 0.5]) == 2
    assert len(Instances.empty((10, 10)).to_supervision()) == 0


def test_a_missing_supervision_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(PumpsegError, match=r"pumpseg\[supervision\]"):
        some_instances().to_supervision()
