"""A clip whose truth is known to the pixel, through the video loop, the tracker and the counter."""

import json
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from pumpseg import Instances, Line, Timings, Tracker, Zone, ZoneCounter
from pumpseg.video import Frame, Sink, Sinks, Source, VideoTiming, process
from pumpseg.video.sinks.json import frame_record
from pumpseg.video.tracking import CONFIRMING_SECONDS

RATE, FRAMES, SIZE = 25, 200, (180, 320)
PEN = [(40, 40), (150, 30), (170, 120), (60, 150), (20, 90)]
SHAPES = [
    Zone("pen", PEN),
    Zone("right", [0.75, 0, 1, 0, 1, 1, 0.75, 1]),
    Line("across", [0.62, 0.1, 0.62, 0.9]),
    Line("down", [0, 0.5, 1, 0.5]),
]


def path(*points):
    """Where an object is in each frame, between (frame, x, y) of its centre in whole pixels; None outside of these."""
    times, xs, ys = zip(*points, strict=True)
    return [
        (round(np.interp(i, times, xs)), round(np.interp(i, times, ys))) if times[0] <= i <= times[-1] else None
        for i in range(FRAMES)
    ]


WOBBLE = [(i, 198 + (3 if i % 4 < 2 else -3) // (1 + i % 3), 160) for i in range(40, 160)]
# Diameter and path; later ones are in front.
OBJECTS = [
    (30, path((0, 100, 80), (199, 100, 80))),  # stays in the pen
    (36, path((0, 300, 40), (60, 300, 40), (130, 60, 60), (199, 60, 60))),  # from the right edge into the pen, in
    (24, path((10, 250, 170), (60, 250, 20), (110, 250, 170))),  # up over the middle, and down again
    (40, path((0, 120, 160), *WOBBLE, (199, 260, 160))),  # jitters on the line for five seconds, then on
    (28, path((20, 20, 90), (50, 100, 90), (90, 100, 90), (130, 20, 150))),  # visits the pen, passes in front
    (20, path((100, 310, 120), (140, 210, 60), (199, 310, 20))),  # nearly to the line, and back
]


def disc(diameter):
    middle = np.arange(diameter) + 0.5 - diameter / 2
    return middle[:, None] ** 2 + middle**2 <= (diameter / 2) ** 2


def visible():
    """Of every frame the numbers of the objects that are seen, 0 for none: uint8 (H, W)."""
    for i in range(FRAMES):
        canvas = np.zeros((SIZE[0] + 80, SIZE[1] + 80), np.uint8)
        for number, (diameter, places) in enumerate(OBJECTS, 1):
            if places[i] is not None:
                x, y = (value - diameter // 2 + 40 for value in places[i])
                canvas[y : y + diameter, x : x + diameter][disc(diameter)] = number
        yield canvas[40:-40, 40:-40]


class Scene(Source):
    name, timing, length = "scene", VideoTiming(Fraction(1, RATE), Fraction(RATE)), FRAMES

    def __iter__(self):
        for i, seen in enumerate(visible()):
            yield Frame(np.repeat(seen[..., None], 3, axis=2), self.name, i, i / RATE, i)


def infer(frame):
    """Instances whose masks are exactly the pixels of each object."""
    seen = frame.image[..., 0]
    padded = np.pad(seen, 80)
    boxes, cells = [], []
    for number, (diameter, places) in enumerate(OBJECTS, 1):
        if places[frame.index] is not None and (seen == number).any():
            x, y = (value - diameter // 2 for value in places[frame.index])
            rows, columns = np.nonzero(seen == number)
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            side = 40
            cells.append((padded[y + 80 : y + 80 + side, x + 80 : x + 80 + side] == number, (x, y, x + side, y + side)))
    count = len(boxes)
    instances = Instances.in_frame(
        np.array([box for _, box in cells], np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.8, count, dtype=np.float32),
        np.zeros(count, np.int64),
        np.array([cell for cell, _ in cells], np.float32).reshape(-1, 40, 40),
        SIZE,
        ["pumpkin"],
    )
    assert [crop.area for crop in instances.crop_masks] == [
        np.count_nonzero(seen == number) for number in range(1, 7) if (seen == number).any()
    ]
    # The tracker sees boxes as a model gives them: tight.
    return SimpleNamespace(instances=instances, boxes=np.array(boxes, np.float32))


class Records(Sink):
    def __init__(self):
        self.records, self.seconds = [], []

    def write(self, result):
        self.records.append(json.loads(json.dumps(frame_record(result))))
        self.seconds.append(result.stage_seconds["zones"])
        self.counts = result.counts


@pytest.fixture(scope="module")
def run():
    def exact(frame):
        found = infer(frame)
        return replace(found.instances, boxes=found.boxes), Timings()

    records = Records()
    summary = process(Scene(), exact, Sinks([records]), tracker=Tracker(RATE), zones=ZoneCounter(SHAPES))
    return SimpleNamespace(records=records.records, counts=records.counts, summary=summary)


def inside(zone):
    """The zone's pixels by the even-odd rule at their centres, on their own terms: bool (H, W)."""
    x, y = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    odd = np.zeros(SIZE, bool)
    corners = np.array(zone.points)
    corners = corners * SIZE[::-1] if corners.max() <= 1 else corners
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            odd ^= ((y1 <= y) != (y2 <= y)) & (x >= x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


@pytest.mark.parametrize("zone", SHAPES[:2], ids=str)
def test_occupancy_is_that_of_the_pixels(run, zone):
    pixels = inside(zone)
    wanted = [np.count_nonzero(seen[pixels]) / np.count_nonzero(pixels) for seen in visible()]
    assert max(wanted) > 0.1
    reported = [record["zones"][zone.name]["occupancy"] for record in run.records]
    np.testing.assert_allclose(reported, wanted, atol=1e-6)


def test_crossings_are_exact(run):
    lines = {name: (dict(line.crossed_in), dict(line.crossed_out)) for name, line in run.counts.lines.items()}
    # across, from top to bottom, in is to the left: the second goes in, the fourth out after its jitter.
    # down, in is downwards: the third out and in, the last out; the fifth appears on the line, and does not count.
    assert lines == {"across": ({"pumpkin": 1}, {"pumpkin": 1}), "down": ({"pumpkin": 1}, {"pumpkin": 2})}


def test_who_jitters_on_a_line_crosses_it_once(run):
    crossed = [record["frame"] for record in run.records if record["lines"]["across"]["crossed_out"]]
    assert len(crossed) == 1
    assert crossed[0] > 160


def stays(zone, number):
    """The first and last frame of each stay of an object in a zone, by the rule of the counter."""
    pixels, within, found = inside(zone), False, []
    for i, seen in enumerate(visible()):
        mask = seen == number
        if mask.any():
            share = np.count_nonzero(mask & pixels) / np.count_nonzero(mask)
            within = share >= (0.4 if within else 0.5)
        elif within and OBJECTS[number - 1][1][i] is None:
            within = False
        if within and (not found or found[-1][1] < i - 1):
            found.append([i, i])
        elif within:
            found[-1][1] = i
    return found


def test_who_enters_and_leaves_and_how_long_they_stay_is_exact(run):
    for zone in SHAPES[:2]:
        every = [stay for number in range(1, 7) for stay in stays(zone, number)]
        left = [(end - begin) / RATE for begin, end in every if end < FRAMES - 1]
        counted = run.counts.zones[zone.name]
        assert sum(counted.entered.values()) == len(every)
        assert sum(counted.left.values()) == len(left)
        # What appears inside is timed from the frame in which its track is confirmed.
        late = CONFIRMING_SECONDS + 2 / RATE
        assert sum(left) - late * len(left) <= counted.dwell_seconds <= sum(left) + 1e-6
        still = [one.seconds for one in counted.objects]
        assert sorted(still) == pytest.approx(
            sorted((end - begin) / RATE for begin, end in every if end == FRAMES - 1), abs=late
        )


def test_the_count_is_exact_once_tracks_are_confirmed(run):
    for zone in SHAPES[:2]:
        every = [stay for number in range(1, 7) for stay in stays(zone, number)]
        wanted = np.array([sum(begin <= i <= end for begin, end in every) for i in range(FRAMES)])
        counted = np.array([record["zones"][zone.name]["count"] for record in run.records])
        assert wanted.max() >= 2
        assert np.count_nonzero(wanted != counted) <= 6 * sum(1 for begin, _ in every if begin == 0) + 12
        np.testing.assert_array_equal(counted[-5:], wanted[-5:])


def test_the_summary_has_the_totals(run):
    totals = json.loads(json.dumps(run.summary.to_json()))["counts"]
    assert totals == json.loads(json.dumps(run.counts.totals()))
    assert "across: 1 in, 1 out" in str(run.summary)
    assert run.summary.stages["zones"].mean > 0
