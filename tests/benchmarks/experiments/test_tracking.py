"""The scenario "crossing" without a model: what an eye would see of it, followed and scored by the benchmark."""

import cv2
import numpy as np
import pytest

pytest.importorskip("trackers", reason='needs pip install "pumpseg[track]"')
pytest.importorskip("pycocotools", reason='needs pip install "pumpseg[train]"')

from pumpseg import Instances
from pumpseg.video import Tracker
from pumpseg_train.synth.clip import camera_at, make_stage
from pumpseg_train.synth.scene import place

SIZE, SECONDS, FPS = (320, 240), 20.0, 24


@pytest.fixture(scope="module")
def benchmark(load_script):
    return load_script("tracking")


@pytest.fixture(scope="module")
def views():
    """Of every frame its time, and by id the visible part, bool (h, w), of each pumpkin drawn as a disc."""
    stage = make_stage(3, SECONDS, SIZE, "crossing")
    frames = []
    for index in range(round(SECONDS * FPS)):
        camera = camera_at(index / FPS, SECONDS, SIZE)
        owner = np.zeros(SIZE[::-1], np.uint8)
        placed = []
        for actor in stage.actors:
            spot, turn = actor.at(index / FPS)
            placement, _ = place(camera, spot, actor.size, turn, actor.pumpkin.support)
            placed.append((-float((placement.position - camera.position) @ camera.axes[2]), actor.track_id, placement))
        for _, ident, placement in sorted(placed, key=lambda entry: entry[0]):
            centre = tuple(round(value) for value in placement.centre)
            cv2.circle(owner, centre, round(0.9 * placement.scale), ident, cv2.FILLED)
        frames.append((index / FPS, {int(ident): owner == ident for ident in np.unique(owner) if ident}))
    return frames


def found(parts, rng, smallest):
    """What a good model would find of these parts: boxes a little off, nothing smaller than `smallest` pixels."""
    kept = [mask for mask in parts.values() if mask.sum() >= smallest]
    boxes, cells = [], []
    for mask in kept:
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        boxes.append(np.array([x, y, x + w, y + h]) + rng.normal(0, 0.02 * np.sqrt(w * h), 4))
        cells.append(cv2.resize(mask[y : y + h, x : x + w].astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA))
    order = rng.permutation(len(kept))
    return Instances.in_frame(
        np.array(boxes, np.float32).reshape(-1, 4)[order],
        np.full(len(kept), 0.9, np.float32),
        np.zeros(len(kept), np.int64),
        np.array(cells, np.float32).reshape(-1, 28, 28)[order],
        SIZE[::-1],
        ["pumpkin"],
    )


@pytest.mark.parametrize(("missed", "smallest"), [(0.0, 30), (0.1, 120)])
def test_every_pumpkin_keeps_its_id_where_they_hide_each_other(benchmark, views, missed, smallest):
    rng = np.random.default_rng(1)
    tracker, truth, seen = Tracker(FPS), [], []
    for time, parts in views:
        instances = found(parts, rng, smallest)
        instances = instances[rng.random(len(instances)) >= missed]
        seen.append(benchmark.Seen.of(tracker.update(instances, time)))
        visible = {ident: mask for ident, mask in parts.items() if mask.sum() >= smallest}
        masks = [benchmark.coco_mask.encode(np.asfortranarray(mask.view(np.uint8))) for mask in visible.values()]
        truth.append(benchmark.Seen(np.array(list(visible), np.int64), masks))
    figures = benchmark.scored(truth, seen, FPS)
    assert tracker.count == figures["true_count"] == 10
    assert figures["switches"] == 0
    assert figures["object_seconds"] > 60
    assert figures["recall"] > 0.95 * (1 - missed)


def test_switches_are_counted(benchmark):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    rle = benchmark.coco_mask.encode(np.asfortranarray(mask))
    truth = [benchmark.Seen(np.array([1]), [rle])] * 48
    swapped = [benchmark.Seen(np.array([4 + (i >= 24)]), [rle]) for i in range(48)]
    figures = benchmark.scored(truth, swapped)
    assert (figures["switches"], figures["object_seconds"]) == (1, 2.0)
    assert figures["switches_per_100"] == 50
    assert figures["idf1"] == pytest.approx(0.5)
    blind = benchmark.scored(truth, [benchmark.Seen(np.zeros(0, np.int64), [])] * 48)
    assert (blind["switches"], blind["recall"]) == (0, 0)
