import json
import sys

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pumpseg import Instances
from pumpseg.batch.run import BatchOptions, run_batch
from pumpseg.cli.video import main
from pumpseg.drawing import PALETTE, UNCONFIRMED_COLOUR, draw
from pumpseg.errors import PumpsegError, SourceError
from pumpseg.instances import UNCONFIRMED
from pumpseg.video import Tracker, open_source, process, stream
from pumpseg.video.sources.files import find_files
from pumpseg.video.tracking import CONFIRMING_FRAMES, CONFIRMING_SECONDS, LOST_SECONDS, MIN_RATE, Track

pytest.importorskip("trackers", reason='needs pip install "pumpseg[track]"')

FRAME = (240, 320)
RATE = 25


def seen(*boxes, scores=None):
    """Instances whose masks fill their boxes, xyxy."""
    count = len(boxes)
    return Instances.in_frame(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or [0.9] * count, np.float32),
        np.zeros(count, np.int64),
        np.ones((count, 4, 4), np.float32),
        FRAME,
        ["pumpkin"],
    )


def at(x, y=100, size=40):
    return (x, y, x + size, y + size)


class Run:
    """A tracker fed with frames at RATE."""

    def __init__(self):
        self.tracker, self.frame = Tracker(RATE), 0

    def __call__(self, *boxes, **options):
        self.frame += 1
        return self.tracker.update(seen(*boxes, **options), self.frame / RATE).track_ids.tolist()


@pytest.fixture
def run():
    return Run()


@pytest.mark.parametrize(("rate", "wanted"), [(2, CONFIRMING_FRAMES), (100, 2 + round(100 * CONFIRMING_SECONDS))])
def test_an_id_is_given_to_what_is_seen_often_and_long_enough(rate, wanted):
    tracker = Tracker(rate)
    ids = [tracker.update(seen(at(50), at(150)), i / rate).track_ids.tolist() for i in range(wanted + 2)]
    assert ids[: wanted - 1] == [[UNCONFIRMED, UNCONFIRMED]] * (wanted - 1)
    assert ids[wanted - 1 :] == [[1, 2]] * 3
    assert tracker.count == 2


def test_frames_may_be_as_rare_as_promised():
    tracker = Tracker()
    ids = [tracker.update(seen(at(100)), i / MIN_RATE).track_ids.tolist() for i in range(5)]
    assert ids == [[UNCONFIRMED]] * (CONFIRMING_FRAMES - 1) + [[1]] * 3


def test_a_flash_is_not_counted(run):
    for _ in range(4):
        run(at(50))
    for _ in range(10):
        run()
    assert run.tracker.count == 0


def test_the_order_of_instances_does_not_matter(run):
    for i in range(10):
        ids = run(at(50 + 2 * i), at(250 - 2 * i))
    for i in range(10, 20):
        assert run(at(250 - 2 * i), at(50 + 2 * i)) == ids[::-1]


def test_ids_survive_a_crossing(run):
    for i in range(60):
        left, right = at(20 + 4 * i, 100, 50), at(280 - 4 * i, 108, 30)
        hidden = left[0] <= right[0] and right[2] <= left[2]
        ids = run(left) if hidden else run(left, right)
    assert ids == [1, 2]
    assert run.tracker.count == 2


def test_one_that_comes_back_where_it_must_has_its_old_id(run):
    for i in range(25):
        ids = run(at(20 + 2 * i))
    for _ in range(40):
        run()
    for i in range(65, 72):
        ids = run(at(20 + 2 * i))
    assert ids == [1]


@pytest.mark.parametrize(
    ("gone", "where"),
    [(round(LOST_SECONDS * RATE) + 1, 100), (40, 200)],
    ids=["too late", "elsewhere"],
)
def test_one_that_cannot_be_the_same_has_a_new_id(run, gone, where):
    for _ in range(25):
        run(at(100))
    for _ in range(gone):
        run()
    for _ in range(7):
        ids = run(at(where))
    assert ids == [2]


def test_one_that_comes_in_where_another_left_is_another(run):
    for i in range(45):
        run(at(160 + 4 * i))
    for _ in range(12):
        run()
    for i in range(12):
        ids = run(at(300 - 4 * i))
    assert ids == [2]


@pytest.mark.parametrize("merged", [5, 20])
def test_several_taken_for_one_are_nobody_and_nobody_new(run, merged):
    for _ in range(10):
        run(at(100), at(142))
    for _ in range(merged):
        assert run((100, 100, 182, 140)) == [UNCONFIRMED]
    assert [run(at(100), at(142)) for _ in range(2)][-1] == [1, 2]
    assert run.tracker.count == 2


def test_a_detection_of_both_takes_over_neither(run):
    both = (100, 100, 182, 140)
    for i in range(16):
        run(*[at(100), at(142), both][: 2 if i < 10 else 3])
    for _ in range(5):
        assert run(both) == [UNCONFIRMED]
    boxes = {track.track_id: tuple(track.box) for track in run.tracker.tracks.values()}
    assert boxes == {1: at(100), 2: at(142), UNCONFIRMED: both}
    assert [run(at(100), at(142)) for _ in range(7)][-1] == [1, 2]
    assert run.tracker.count == 2


@pytest.mark.parametrize("free", [0, 12])
def test_one_that_touched_another_of_late_is_known_where_it_must_be(run, free):
    long = (5, 130, 315, 200)
    for i in range(free):
        run(long, at(20, 80 - 5 * (free - i)))
    for i in range(25):
        run(long, at(20 + 3 * i))
    for _ in range(30):
        run(long)
    for _ in range(7):
        elsewhere = run(long, at(40, 20))
    for i in range(62, 69):
        back = run(long, at(20 + 3 * i))
    assert (elsewhere, back) == ([1, 3], [1, 2])


def test_a_second_find_of_one_is_not_counted(run):
    for _ in range(10):
        ids = run(at(100, size=60), at(110, 105, 40), scores=[0.9, 0.6])
    assert ids == [1, UNCONFIRMED]


def test_frames_without_instances_and_times_that_stand_still(run):
    assert run() == []
    tracker = Tracker()
    for time in (0.0, 0.2, 0.4, 0.4, 0.3):
        ids = tracker.update(seen(at(50)), time).track_ids.tolist()
    assert ids == [1]


def test_nothing_is_kept_of_what_is_long_gone(run):
    rng = np.random.default_rng(0)
    for _ in range(60):
        run(*(at(x, y, 10) for x, y in rng.integers(0, 200, (3, 2))))
    for _ in range(round(LOST_SECONDS * RATE) + 2):
        run()
    assert not run.tracker.tracks


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=20, unique=True),
    *[st.floats(-100, 100)] * 2,
    st.floats(0, 2),
)
def test_motion_is_extrapolated_in_a_straight_line(times, vx, vy, ahead):
    times = sorted(times)
    assume(times[-1] - times[0] >= 0.25)
    track = Track()
    for time in times:
        track.see(np.array([vx * time, vy * time, vx * time + 20, vy * time + 20]), time, inside=True, free=True)
    there, tolerance = track.predicted(times[-1] + ahead)
    assert there.x == pytest.approx(10 + vx * (times[-1] + ahead), abs=1e-3)
    assert there.y == pytest.approx(10 + vy * (times[-1] + ahead), abs=1e-3)
    assert tolerance >= 0.75 * 20 - 1e-6


def test_colours_follow_ids_and_those_without_are_grey():
    frame = np.zeros((*FRAME, 3), np.uint8)
    instances = seen(at(20), at(120), at(220)).with_track_ids(np.array([12, UNCONFIRMED, 2]))
    drawn = draw(frame, instances, labels=["", "", ""])
    colours = [tuple(int(value) for value in drawn[101, x]) for x in (40, 140, 240)]
    assert colours == [PALETTE[12 % len(PALETTE)], UNCONFIRMED_COLOUR, PALETTE[2]]
    assert np.array_equal(drawn, draw(frame, instances[::-1], labels=["", "", ""]))


def test_masks_are_pasted_once():
    instances = seen(at(20), at(120))
    assert instances.crop_masks is instances.with_track_ids(np.array([1, 2])).crop_masks


def test_ids_do_not_depend_on_how_many_frames_are_inferred_at_once(segmenter, clip):
    runs = []
    for workers in (1, 3):
        results = stream(open_source(clip), segmenter.infer, workers=workers, tracker=Tracker(25))
        runs.append([result.instances.track_ids.tolist() for result in results])
    assert runs[0] == runs[1]
    assert any(ids and max(ids) > 0 for ids in runs[0])
    assert runs[0] == [result.instances.track_ids.tolist() for result in segmenter.stream(clip, track=True)]


def test_a_run_counts_and_times_it(segmenter, clip):
    summary = process(open_source(clip), segmenter.infer, tracker=Tracker(25))
    assert summary.distinct >= 1
    assert list(summary.stages)[-3:] == ["track", "draw", "write"]
    assert summary.stages["track"].mean > 0
    assert f"{summary.distinct} distinct instances" in str(summary)
    assert process(open_source(clip), segmenter.infer).distinct is None


def test_the_command_writes_ids(model_path, clip, tmp_path, capsys):
    names = {name: tmp_path / name for name in ("out.jsonl", "coco.json", "stats.json", "out.mp4")}
    options = ["--json", names["out.jsonl"], "--coco", names["coco.json"], "--stats", names["stats.json"]]
    command = [clip, "--track", "--no-show", "--model", model_path, "--save", names["out.mp4"], *options]
    assert main([str(word) for word in command]) == 0
    lines = [json.loads(line) for line in names["out.jsonl"].read_text().splitlines()]
    ids = {one["track_id"] for line in lines for one in line["instances"]}
    assert None in ids
    count = max(ids - {None})
    assert json.loads(names["stats.json"].read_text())["distinct"] == count
    assert f"{count} distinct instances" in capsys.readouterr().err
    results = json.loads(names["coco.json"].read_text())
    assert {one.get("track_id") for one in results} == ids


def test_a_batch_follows_each_video_by_itself(segmenter, clip, tmp_path, square_frame):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    cv2.imwrite(str(folder / "c.png"), square_frame)
    options = BatchOptions(annotate=False, json_lines=True, track=True)
    outcomes = run_batch(find_files([folder]), tmp_path / "out", segmenter, options)
    assert [outcome.summary.distinct is None for outcome in outcomes] == [False, False, True]
    texts = [(tmp_path / "out" / f"{name}.jsonl").read_text() for name in ("a.mp4", "b.mp4", "c.png")]
    assert texts[0].replace("a.mp4", "b.mp4") == texts[1]
    assert '"track_id"' in texts[0]
    assert '"track_id"' not in texts[2]


def test_rates_and_times_that_cannot_be_are_refused():
    for rate in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rate must be frames a second"):
            Tracker(rate)
    with pytest.raises(ValueError, match="time must be in seconds, got nan"):
        Tracker().update(Instances.empty((8, 8)), float("nan"))


def test_images_cannot_be_followed(segmenter, tmp_path, square_frame, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), square_frame)
    assert main([str(tmp_path / "a.png"), "--track", "--no-show"]) == 2
    assert "tracking needs a video or camera" in capsys.readouterr().err
    with pytest.raises(SourceError, match=r"a\.png is still images"):
        segmenter.stream(tmp_path / "a.png", track=True)


def test_a_missing_package_names_the_extra(monkeypatch, clip, tmp_path, segmenter, capsys):
    monkeypatch.setitem(sys.modules, "trackers", None)
    assert main([str(clip), "--track", "--no-show"]) == 2
    assert 'pip install "pumpseg[track]"' in capsys.readouterr().err
    with pytest.raises(PumpsegError, match=r"pumpseg\[track\]"):
        run_batch(find_files([clip]), tmp_path / "out", segmenter, BatchOptions(track=True))
    assert not (tmp_path / "out").exists()
