import threading
from dataclasses import replace

import numpy as np
import pytest

from pumpseg import Line, Zone, ZoneCounter, draw
from pumpseg.video import Sink, Style, Viewer


@pytest.fixture
def marked(make_result, make_instances):
    frame = np.full((60, 80, 3), 90, np.uint8)
    instances = make_instances((60, 80), [(10, 20, 30, 50), (40, 5, 60, 25)])
    return make_result(frame, 7, 280, instances=instances, source="a.mp4", stage_seconds={"session": 0.1, "draw": 0.0})


def test_a_frame_is_annotated_when_first_asked_for_and_then_kept(marked):
    before = marked.frame.copy()
    assert marked.stage_seconds["draw"] == 0
    annotated = marked.annotated
    np.testing.assert_array_equal(annotated, draw(marked.frame, marked.instances))
    np.testing.assert_array_equal(marked.frame, before)
    drawing = marked.stage_seconds["draw"]
    assert drawing > 0
    assert marked.annotated is annotated
    assert marked.stage_seconds == {"session": 0.1, "draw": drawing}


def test_threads_that_ask_at_the_same_time_get_the_same_picture(marked):
    pictures, meeting = [], threading.Barrier(4)

    def ask():
        meeting.wait(timeout=20)
        pictures.append(marked.annotated)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(picture) for picture in pictures}) == 1


def test_a_result_is_readable(marked):
    assert repr(marked).startswith("Result('a.mp4', index=7, time=0.280, Instances(2: ")


@pytest.mark.parametrize(
    ("style", "options"),
    [
        (Style(), {}),
        (Style(labels=False), {"labels": False}),
        (Style(masks_only=True), {"masks_only": True}),
        (Style("class"), {"color": "class"}),
        (Style("track"), {"color": "auto"}),
    ],
)
def test_styles(marked, style, options):
    drawn = style.draw(marked.frame, marked.instances)
    np.testing.assert_array_equal(drawn, draw(marked.frame, marked.instances, **options))


def test_tracked_instances_have_the_colour_of_their_track(marked):
    tracked = marked.instances.with_track_ids(np.array([5, 2]))
    np.testing.assert_array_equal(
        Style("track").draw(marked.frame, tracked), draw(marked.frame, tracked, color="track")
    )
    assert (Style("instance").draw(marked.frame, tracked) != draw(marked.frame, tracked, color="track")).any()


def test_zones_are_drawn_with_the_instances(marked):
    tracked = marked.instances.with_track_ids(np.array([5, 2]))
    zones = ZoneCounter([Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1]), Line("down", [0, 0.5, 1, 0.5])])
    result = replace(marked, instances=tracked, counts=zones.update(tracked, 0.0), stage_seconds={"draw": 0.0})
    plain = draw(marked.frame, tracked)
    without_tags = Style(labels=False).draw(marked.frame, tracked, result.counts)
    assert (result.annotated != plain).any(axis=2).sum() > 100
    assert (result.annotated != without_tags).any()
    assert (without_tags != draw(marked.frame, tracked, False)).any()
    np.testing.assert_array_equal(
        Style(masks_only=True).draw(marked.frame, tracked, result.counts), draw(marked.frame, tracked, masks_only=True)
    )
    assert (marked.frame == 90).all()


class Notes(Sink):
    def __init__(self, fails=False):
        self.events, self.fails = [], fails

    def write(self, result):
        self.events.append(result)

    def complete(self, *, interrupted=False):
        if self.fails:
            raise OSError("disk full")
        self.events.append(("complete", interrupted))

    def discard(self):
        self.events.append("discard")


def test_leaving_a_sink_completes_it():
    with Notes() as sink:
        sink.write(1)
    assert sink.events == [1, ("complete", False), "discard"]


def test_an_exception_discards_a_sink():
    sink = Notes()
    with pytest.raises(ZeroDivisionError), sink:
        raise ZeroDivisionError
    assert sink.events == ["discard"]


def test_a_sink_that_cannot_be_completed_is_discarded():
    sink = Notes(fails=True)
    with pytest.raises(OSError, match="disk full"), sink:
        pass
    assert sink.events == ["discard"]


def test_a_viewer_is_closed_whatever_happens():
    class Screen(Viewer):
        closed = False

        def show(self, result, show_at=None):
            return True

        def close(self):
            self.closed = True

    screen = Screen()
    with pytest.raises(ZeroDivisionError), screen:
        raise ZeroDivisionError
    assert screen.closed
