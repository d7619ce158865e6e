import json

import pytest

from pumpseg import Line, Zone, ZoneCounter

LEFT_HALF = Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1])


@pytest.fixture
def counts(make_frame):
    counter = ZoneCounter([LEFT_HALF, Line("down", [0, 0.5, 1, 0.5])])
    for i in range(10):
        counts = counter.update(make_frame([(7, 20, 20 + 6 * i, 20)]), i / 10)
    return counts


def test_a_frame_as_json(counts):
    record = json.loads(json.dumps(counts.to_json()))
    assert record == {
        "zones": {
            "left": {
                "count": 1,
                "occupancy": round(400 / (120 * 80), 6),
                "entered": 1,
                "left": 0,
                "track_ids": [7],
                "dwell": [0.9],
            }
        },
        "lines": {"down": {"in": 1, "out": 0, "crossed_in": [], "crossed_out": []}},
    }


def test_totals_as_json(counts):
    totals = json.loads(json.dumps(counts.totals()))
    assert totals["zones"]["left"] == {
        "count": 1,
        "max_count": 1,
        "occupancy": 400 / (120 * 80),
        "mean_occupancy": pytest.approx(400 / (120 * 80)),
        "max_occupancy": 400 / (120 * 80),
        "entered": {"pumpkin": 1},
        "left": {},
        "mean_dwell": 0.0,
        "max_dwell": 0.0,
    }
    assert totals["lines"] == {"down": {"in": {"pumpkin": 1}, "out": {}}}


def test_without_a_tracker_only_what_is_seen_is_reported(make_frame):
    counts = ZoneCounter([LEFT_HALF]).update(make_frame([(1, 0, 0, 10), (2, 100, 0, 10)], tracked=False), 0.0)
    assert counts.to_json() == {"zones": {"left": {"count": 1, "occupancy": round(100 / 9600, 6)}}, "lines": {}}
    assert "entered" not in counts.totals()["zones"]["left"]
    assert counts.zones["left"].objects[0].track_id is None
