"""`pumpseg-video --zone --line`."""

import json

import numpy as np
from command_output import assert_error, files
from pycocotools import mask as coco

from pumpseg import Segmenter, Tracker, Zone, ZoneCounter
from pumpseg.zones.shapes import zone_mask

FRONT = [0.1, 0.5, 0.9, 0.5, 0.95, 0.95, 0.05, 0.95]


def shown(name, numbers):
    return f"{name}={','.join(map(str, numbers))}"


def covered(record, zone):
    """The share of a zone that the masks in a JSON line cover."""
    crop = zone_mask(zone, (record["height"], record["width"]))
    masks = [coco.decode(one["segmentation"]).astype(bool) for one in record["instances"]]
    union = np.any(masks, axis=0) if masks else np.zeros((record["height"], record["width"]), bool)
    part = union[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]]
    return np.count_nonzero(part & crop.mask) / crop.area


def records_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_zones_and_lines_of_the_demo_are_counted_as_a_person_counts_them(run):
    line = shown("middle", [320, 0, 320, 480])
    options = ["--limit", "40", "--json", "o.jsonl", "--stats", "s.json", "--save", "o.mp4"]
    code, err = run("demo", "--track", "--zone", shown("front", FRONT), "--line", line, *options, model=False)
    assert code == 0
    records = records_of(run.folder / "o.jsonl")
    occupancies = [record["zones"]["front"]["occupancy"] for record in records]
    np.testing.assert_allclose(occupancies, [covered(record, Zone("front", FRONT)) for record in records], atol=1e-6)
    assert 0.1 < min(occupancies) < max(occupancies) < 0.3
    # Looking from the top of the line to its bottom, right is left in the picture: the large pumpkin in front rolls out
    # at once, the small one behind comes in later. The green one on the line, and those in front of it, lie still.
    lines = [(record["frame"], record["lines"]["middle"]) for record in records]
    crossed = [(frame, which) for frame, line in lines for which in ("in", "out") if line[f"crossed_{which}"]]
    assert [which for _, which in crossed] == ["out", "in"]
    assert 5 <= crossed[0][0] <= 12
    assert 28 <= crossed[1][0] <= 38
    # Three stand in front, of which the large one leaves at the right edge.
    assert records[20]["zones"]["front"]["count"] == 3
    stats = json.loads((run.folder / "s.json").read_text(encoding="utf-8"))
    assert stats["counts"]["zones"]["front"]["entered"] == {"pumpkin": 3}
    assert stats["counts"]["zones"]["front"]["left"] == {"pumpkin": 1}
    assert stats["counts"]["lines"]["middle"] == {"in": {"pumpkin": 1}, "out": {"pumpkin": 1}}
    assert stats["stages"]["zones"]["mean"] > 0
    assert "; middle: 1 in, 1 out" in err
    assert "; front: at most 3 at once, 3 entered, 1 left, " in err


def test_the_loop_of_ones_own_counts_as_the_command_does(run, clip, model_path):
    zone = Zone.parse("left=0,0,0.5,0,0.5,1,0,1")
    assert run(clip, "--zone", "left=0,0,0.5,0,0.5,1,0,1", "--track", "--json", "o.jsonl")[0] == 0
    records = records_of(run.folder / "o.jsonl")
    segmenter = Segmenter(model_path, provider="cpu", threads=1)
    streamed = [result.counts.to_json() for result in segmenter.stream(clip, track=True, zones=ZoneCounter([zone]))]
    tracker, counter, by_hand = Tracker(25), ZoneCounter([zone]), []
    for result in segmenter.stream(clip):
        by_hand.append(counter.update(tracker.update(segmenter(result.frame), result.time), result.time).to_json())
    assert streamed == by_hand == [{"zones": record["zones"], "lines": record["lines"]} for record in records]
    assert max(record["zones"]["left"]["occupancy"] for record in records) > 0


def test_zones_without_a_tracker(run, clip):
    code, err = run(clip, "--zone", "left=0,0,48,0,48,64,0,64", "--json", "o.jsonl")
    assert code == 0
    assert "left: at most " in err
    assert "entered" not in err
    for record in records_of(run.folder / "o.jsonl"):
        assert record["zones"]["left"].keys() == {"count", "occupancy"}


def test_wrong_zones_are_one_line_and_leave_nothing(run, clip):
    for option, message in (
        ("left=0,0,900,0,900,900", "zone left reaches to x=900, y=900, but the frame is 96x64"),
        ("left:gourd=0,0,1,0,1,1", "zone left: no class 'gourd'; there are pumpkin"),
    ):
        assert_error(run(clip, "--zone", option, "--save", "out.mp4", "--json", "o.jsonl"), message)
    assert files(run.folder) == []


def test_zones_are_counted_in_batches(run, clip):
    code, _ = run(
        clip, "--zone", "left=0,0,0.5,0,0.5,1,0,1", "--save-dir", "out", "--json", "--stats", "s.json", "--no-annotate"
    )
    assert code == 0
    (figures,) = json.loads((run.folder / "s.json").read_text(encoding="utf-8"))["inputs"]
    assert figures["counts"]["zones"]["left"]["max_occupancy"] > 0
    assert "zones" in records_of(run.folder / "out" / "clip.mp4.jsonl")[0]
    assert_error(run(clip, "--zone", "x:gourd=0,0,1,0,1,1", "--save-dir", "other"), "no class 'gourd'")
    assert files(run.folder) == ["out", "s.json"]
