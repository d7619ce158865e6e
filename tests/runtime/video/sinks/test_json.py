import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pumpseg import Instances, Line, Zone, ZoneCounter
from pumpseg.errors import SinkError
from pumpseg.video import Result
from pumpseg.video.sinks.json import CocoIds, CocoSink, JsonLinesSink, frame_record


@given(
    st.lists(st.tuples(*[st.floats(-20, 120, width=32)] * 4, st.floats(0, 1, width=32)), max_size=4),
    st.floats(0, 1e5),
    st.booleans(),
)
def test_records_hold_what_the_instances_hold(found, time, tracked):
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d, _ in found], np.float32)
    instances = Instances.in_frame(
        boxes.reshape(-1, 4),
        np.array([score for *_, score in found], np.float32),
        np.zeros(len(found), np.int64),
        np.ones((len(found), 28, 28), np.float32),
        (80, 100),
        ["Kürbis"],
    )
    if tracked:
        instances = instances.with_track_ids(np.arange(len(instances)))
    result = Result(np.zeros((80, 100, 3), np.uint8), instances, "a.mp4", 5, time)
    record = json.loads(json.dumps(frame_record(result)))
    assert (record["source"], record["frame"], record["width"], record["height"]) == ("a.mp4", 5, 100, 80)
    assert record["time"] == pytest.approx(time, abs=1e-6)
    assert len(record["instances"]) == len(instances)
    for i, one in enumerate(record["instances"]):
        x, y, w, h = one["bbox"]
        np.testing.assert_allclose([x, y, x + w, y + h], instances.boxes[i], atol=0.011)
        assert one["class"] == "Kürbis"
        assert one["score"] == pytest.approx(instances.scores[i], abs=1e-4)
        assert one["segmentation"]["size"] == [80, 100]
        np.testing.assert_array_equal(coco.decode(one["segmentation"]).astype(bool), instances.masks[i])
        assert one.get("track_id") == (i if tracked else None)


class FullDisk(io.BytesIO):
    """A file that takes bytes, and has no room for it when it is closed."""

    def close(self):
        raise OSError(28, "No space left on device")


def test_records_hold_zones_and_lines_if_there_are_any(make_result, make_instances):
    instances = make_instances((80, 100), [(0, 0, 20, 20)]).with_track_ids(np.array([4]))
    counts = ZoneCounter([Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1]), Line("down", [0, 0.5, 1, 0.5])]).update(
        instances, 0
    )
    frame = np.zeros((80, 100, 3), np.uint8)
    record = frame_record(make_result(frame, instances=instances, counts=counts))
    assert {"zones": record["zones"], "lines": record["lines"]} == counts.to_json()
    assert not {"zones", "lines"} & frame_record(make_result(frame)).keys()


def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch, make_result):
    monkeypatch.setattr(Path, "open", lambda *arguments, **options: FullDisk())
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    sink.write(make_result(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(SinkError, match=r"cannot write .*out\.jsonl: No space left on device"), sink:
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_line_for_each_frame(tmp_path, make_result, make_instances):
    frame = np.zeros((60, 80, 3), np.uint8)
    with JsonLinesSink(tmp_path / "out.jsonl") as sink:
        sink.write(make_result(frame, instances=make_instances((60, 80), [(0, 0, 9, 9)]), source="Kürbis.mp4"))
        sink.write(make_result(frame, 1, 40))
        assert not (tmp_path / "out.jsonl").exists()
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["source"], len(first["instances"])) == ("Kürbis.mp4", 1)
    assert second == {"source": "x", "frame": 1, "time": 0.04, "width": 80, "height": 60, "instances": []}


@pytest.fixture
def coco_results(tmp_path, make_result, make_instances):
    """COCO results of two images."""

    def write(ids, names=("b.png", "a.png"), class_name="pumpkin"):
        with CocoSink(tmp_path / "coco.json", [class_name], ids) as sink:
            for name in names:
                boxes = [(10, 20, 30, 50), (40, 5, 60, 25)] if name == "a.png" else [(1, 2, 3.5, 4)]
                instances = make_instances((60, 80), boxes)
                sink.write(make_result(np.zeros((60, 80, 3), np.uint8), instances=instances, source=f"x/{name}"))
        return json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))

    return write


def test_coco_results_count_frames_and_classes_from_one(coco_results):
    results = coco_results(None)
    assert [(one["image_id"], one["category_id"], one["file_name"]) for one in results] == [
        (1, 1, "b.png"),
        (2, 1, "a.png"),
        (2, 1, "a.png"),
    ]
    assert results[0]["bbox"] == [1, 2, 2.5, 2]


def test_coco_results_score_against_their_data_set(tmp_path, coco_results, make_instances):
    images = [{"id": 70 + i, "file_name": f"images/{n}.png", "height": 60, "width": 80} for i, n in enumerate("ab")]
    boxes = {70: [(10, 20, 30, 50), (40, 5, 60, 25)], 71: [(1, 2, 3.5, 4)]}
    instances = {image: make_instances((60, 80), found) for image, found in boxes.items()}
    annotations = [
        {"id": 10 * image + i, "image_id": image, "category_id": 9, "iscrowd": 0, "area": 100, "segmentation": rle}
        | {"bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]}
        for image, found in instances.items()
        for i, (rle, box) in enumerate(zip(found.to_rle(), found.boxes, strict=True))
    ]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 9, "name": "pumpkin"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    results = coco_results(CocoIds.read(tmp_path / "truth.json"))
    numbers = {(one["file_name"], one["image_id"], one["category_id"]) for one in results}
    assert numbers == {("a.png", 70, 9), ("b.png", 71, 9)}
    data_set = COCO(str(tmp_path / "truth.json"))
    scored = COCOeval(data_set, data_set.loadRes(str(tmp_path / "coco.json")), "segm")
    for step in (scored.evaluate, scored.accumulate, scored.summarize):
        step()
    assert scored.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_coco_ids_of_a_file_with_a_byte_order_mark(tmp_path, encoding):
    truth = {"images": [{"id": 3, "file_name": "x/a.png"}], "categories": [{"id": 9, "name": "Kürbis"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth, ensure_ascii=False), encoding=encoding)
    assert CocoIds.read(tmp_path / "truth.json") == CocoIds({"a.png": 3}, {"Kürbis": 9})


def test_coco_ids_that_do_not_fit(tmp_path, coco_results):
    ids = CocoIds({"a.png": 1}, {"pumpkin": 1})
    with pytest.raises(SinkError, match="no class apple; it has pumpkin"):
        coco_results(ids, class_name="apple")
    with pytest.raises(SinkError, match="is not among the images of the data set"):
        coco_results(ids)
    with pytest.raises(SinkError, match=r"b\.png is not among the images"):
        CocoSink(tmp_path / "x.json", ["pumpkin"], ids, [Path("a.png"), Path("b.png")])
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SinkError, match="is not a COCO json"):
        CocoIds.read(tmp_path / "list.json")


@pytest.mark.parametrize("names", [(), ("none.png",)])
def test_coco_results_of_nothing_are_an_empty_list(tmp_path, names, make_result):
    sink = CocoSink(tmp_path / "coco.json", ["pumpkin"])
    for name in names:
        sink.write(make_result(np.zeros((60, 80, 3), np.uint8), source=name))
    sink.complete()
    assert json.loads((tmp_path / "coco.json").read_text(encoding="utf-8")) == []
