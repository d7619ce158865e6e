import json
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest

from pumpseg import Instances
from pumpseg.errors import OptionError
from pumpseg.video.result import Result
from pumpseg.watch.collect import Collector
from pumpseg.watch.event import Event, new_event_id
from pumpseg_train.cli.data import main as data_main
from pumpseg_train.dataset.annotations import read_dataset

SIZE = (96, 128)
THRESHOLD = 0.5


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_collector(tmp_path, clock):
    opened = []

    def make(**options):
        options = {"per_hour": 100, "random_share": 0.0, "clock": clock, **options}
        opened.append(Collector(tmp_path / "hard", **options))
        return opened[-1]

    yield make
    for collector in opened:
        collector.close()


def result_of(seed, scores=(), ids=None, boxes=None):
    """A picture of its own for each seed, with instances of these scores."""
    rough = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    frame = cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    count = len(scores)
    boxes = [[10 + 30 * i, 20, 34 + 30 * i, 60] for i in range(count)] if boxes is None else boxes
    instances = Instances.in_frame(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.zeros(count, np.int64),
        np.ones((count, 28, 28), np.float32),
        SIZE,
        ["pumpkin"],
    )
    if ids is not None:
        instances = instances.with_track_ids(np.array(ids, np.int64))
    return Result(frame, instances, "yard", seed, seed / 10)


def kept(folder):
    """(reason, number of labels) of each frame, in order."""
    path = folder / "hard" / "train" / "annotations.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    labels = [one["image_id"] for one in content["annotations"]]
    return [(image["reason"], labels.count(image["id"])) for image in content["images"]]


def test_only_frames_with_a_score_near_the_threshold_are_unsure(open_collector, clock, tmp_path):
    collector = open_collector(near_threshold=0.1)
    for seed, scores in enumerate([(0.9,), (0.9, 0.55), (0.65,), (), (0.45,), (0.601,)]):
        collector.offer("yard", result_of(seed, scores), THRESHOLD)
        clock.now += 60
    collector.close()
    assert kept(tmp_path) == [("unsure", 2), ("unsure", 1)]


def test_the_frame_in_which_a_track_is_missing_is_kept(open_collector, clock, tmp_path):
    collector = open_collector(near_threshold=0.0)
    for seed, ids in enumerate([(1, 2), (1, 2), (1,), (1, 2), (1, 2)]):
        collector.offer("yard", result_of(seed, [0.9] * len(ids), ids), THRESHOLD)
        clock.now += 0.1
    collector.close()
    assert kept(tmp_path) == [("flicker", 1)]
    (photo,) = read_dataset(tmp_path / "hard", "train").photos
    missing = result_of(2).frame
    assert np.abs(cv2.imread(str(photo.path)).astype(int) - missing).mean() < 3


@pytest.mark.parametrize(
    ("steps", "pause"),
    [([(1, 2), (1,), (1,), (1,)], 0.1), ([(1, 2), (1,), (1, 2)], 3.0), ([(1, -1), (1,), (1, -1)], 0.1)],
)
def test_a_track_that_leaves_is_away_long_or_is_unconfirmed_does_not_flicker(
    open_collector, clock, tmp_path, steps, pause
):
    collector = open_collector(near_threshold=0.0)
    for seed, ids in enumerate(steps):
        collector.offer("yard", result_of(seed, [0.9] * len(ids), ids), THRESHOLD)
        clock.now += pause
    collector.close()
    assert kept(tmp_path) == []


def test_a_random_share_of_the_others_is_kept(open_collector, clock, tmp_path):
    draws = iter([0.5, 0.009, 0.5, 0.2, 0.011])
    collector = open_collector(random_share=0.01, draw=lambda: next(draws))
    for seed in range(5):
        collector.offer("yard", result_of(seed), THRESHOLD)
        clock.now += 60
    collector.close()
    assert kept(tmp_path) == [("random", 0)]


def test_the_number_an_hour_is_a_limit_also_over_a_restart(open_collector, clock, tmp_path):
    collector = open_collector(per_hour=4)
    for seed in range(100):
        collector.offer("yard", result_of(seed, [0.5]), THRESHOLD)
        clock.now += 3
    collector.close()
    # A quarter of the even interval of 900 s lies between two.
    assert len(kept(tmp_path)) == 2
    collector = open_collector(per_hour=4)
    for seed in range(100, 200):
        collector.offer("yard", result_of(seed, [0.5]), THRESHOLD)
        clock.now += 30
    collector.close()
    assert len(kept(tmp_path)) == 4


def test_the_limit_is_for_all_cameras_together(open_collector, clock, tmp_path):
    collector = open_collector(per_hour=1)
    for seed in range(10):
        collector.offer(f"camera{seed}", result_of(seed, [0.5]), THRESHOLD)
        clock.now += 300
    collector.close()
    assert len(kept(tmp_path)) == 1


def test_the_same_picture_is_kept_once_but_another_object_in_it_too(open_collector, clock, tmp_path):
    collector = open_collector()
    for seed, box in ((1, [10, 20, 34, 60]), (1, [11, 20, 35, 60]), (1, [70, 40, 120, 90])):
        collector.offer("yard", result_of(seed, [0.5], boxes=[box]), THRESHOLD)
        clock.now += 60
    collector.close()
    assert len(kept(tmp_path)) == 2 and collector.duplicates == 1


def event():
    return Event(new_event_id(), datetime.now(UTC), "yard", "crowded")


def test_a_frame_of_an_event_is_kept_when_it_is_marked_wrong(open_collector, tmp_path):
    collector = open_collector(per_hour=1)
    events = [event() for _ in range(3)]
    for seed, one in enumerate(events):
        collector.remember(one, result_of(seed, [0.9]))
    collector.remember(event(), None)
    collector.close()
    # Also after a restart, also twice, and whatever the browser sends.
    collector = open_collector(per_hour=1)
    for event_id in (events[1].id, events[1].id, events[2].id, "../../x", "", "a" * 5000, new_event_id()):
        collector.mark_wrong(event_id)
    collector.close()
    assert kept(tmp_path) == [("wrong", 1), ("wrong", 1)]
    assert len(list((tmp_path / "hard" / ".events").glob("*.json"))) == 1


def test_frames_of_old_events_are_forgotten(open_collector, tmp_path):
    collector = open_collector()
    for seed in range(55):
        collector.remember(event(), result_of(seed))
        while seed % 10 == 9 and len(list((tmp_path / "hard").glob(".events/*.json"))) < min(seed, 50):
            pass
    collector.close()
    assert len(list((tmp_path / "hard" / ".events").iterdir())) == 100


def test_a_disk_that_fails_is_reported_once_and_ends_nothing(open_collector, clock, tmp_path, caplog):
    collector = open_collector()
    (tmp_path / "hard" / "train" / "annotations.json").write_text("{")
    for seed in range(3):
        collector.offer("yard", result_of(seed, [0.5]), THRESHOLD)
        clock.now += 60
    collector.close()
    assert caplog.text.count("a hard frame is not kept") == 1
    assert collector.failed >= 1


def test_options_that_make_no_sense_are_refused(open_collector):
    for options in ({"per_hour": 0}, {"near_threshold": 2}, {"random_share": -1}):
        with pytest.raises(OptionError):
            open_collector(**options)


def test_collected_frames_are_corrected_in_labelme_and_come_back(open_collector, clock, tmp_path, capsys):
    collector = open_collector()
    for seed in range(3):
        collector.offer("yard", result_of(seed, [0.5, 0.9]), THRESHOLD)
        clock.now += 60
    collector.close()
    hard, to_correct, corrected = (tmp_path / name for name in ("hard", "to-correct", "corrected"))
    assert data_main(["check", str(hard)]) == 0
    assert data_main(["convert", str(hard), "--to", "labelme", "--out", str(to_correct)]) == 0
    # What a person does: one label is removed.
    path = sorted(to_correct.rglob("*.json"))[0]
    content = json.loads(path.read_text())
    content["shapes"] = content["shapes"][:1]
    path.write_text(json.dumps(content))
    assert data_main(["convert", str(to_correct), "--from", "labelme", "--out", str(corrected)]) == 0
    assert data_main(["check", str(corrected)]) == 0
    before, after = (read_dataset(folder, "train") for folder in (hard, corrected))
    assert after.classes == before.classes == ("pumpkin",)
    assert sorted(len(photo.annotations) for photo in after.photos) == [1, 2, 2]
    for photo in after.photos:
        twin = next(other for other in before.photos if other.path.name == photo.path.name)
        masks = [annotation.mask(photo.width, photo.height) for annotation in photo.annotations]
        assert (masks[0] == twin.annotations[0].mask(photo.width, photo.height)).all()
