from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import av
import cv2
import numpy as np
import pytest

from pumpseg.errors import SinkError, WriteError
from pumpseg.video import Sink
from pumpseg.video.sinks.json import JsonLinesSink
from pumpseg.video.sinks.open import STANDARD_OUTPUT, Outputs, Sinks, check_outputs, open_sinks
from pumpseg.video.sinks.video import VideoSink
from pumpseg.video.sources.frame_source import VideoTiming
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_source


def test_outputs_never_replace_inputs(tmp_path, make_clip):
    source = open_source(make_clip(tmp_path / "in.mp4", frames=2))
    before = (tmp_path / "in.mp4").read_bytes()
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, Outputs(save=tmp_path / "x" / ".." / "in.mp4"))
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, Outputs(json_lines=tmp_path / "in.mp4"))
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, Outputs(save=tmp_path / "link.mp4"))
    assert (tmp_path / "in.mp4").read_bytes() == before


def test_formats_are_checked_before_anything_is_opened(tmp_path, clip):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with open_source(clip) as video, open_source(tmp_path / "a.png") as image:
        for source, good, bad in (
            (video, ("o.mp4", "frames", "-"), "o.webp"),
            (image, ("o.webp", "marked", "-"), "o.mkv"),
        ):
            for name in good:
                check_outputs(source, Outputs(save=Path(name)))
            with pytest.raises(SinkError, match=f"cannot write {bad}"):
                check_outputs(source, Outputs(save=Path(bad)))


def test_images_are_not_saved_over_themselves(tmp_path):
    source = ImageSource(str(tmp_path), [tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, Outputs(save=tmp_path))


def test_two_images_of_one_name_are_refused(tmp_path):
    source = ImageSource("*", [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"])
    with pytest.raises(SinkError, match="two outputs"):
        open_sinks(source, Outputs(save=tmp_path / "out"))


def test_several_images_need_a_folder(tmp_path):
    source = ImageSource("*", [tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(SinkError, match="name a folder"):
        open_sinks(source, Outputs(save=tmp_path / "out.mp4"))


def test_a_sink_that_cannot_open_takes_the_others_along(tmp_path, clip):
    with pytest.raises(SinkError):
        open_sinks(open_source(clip), Outputs(save=tmp_path / "out.avi", json_lines=tmp_path / "out.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_each_output_has_its_sink(tmp_path, clip, make_result):
    with open_source(clip) as source, open_sinks(source, Outputs()) as none:
        assert not none
        outputs = Outputs(save=tmp_path / "out.mp4", json_lines=tmp_path / "out.jsonl", coco=tmp_path / "out.json")
        with open_sinks(source, outputs, ["pumpkin"]) as sinks:
            assert sinks
            for frame in source:
                sinks.write(make_result(frame.image, frame.index, frame.pts))
        sinks.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.jsonl", "out.mp4"]


def test_an_exception_discards_all_outputs(tmp_path, clip):
    outputs = Outputs(save=tmp_path / "out.mp4", json_lines=tmp_path / "out.jsonl", crops=tmp_path / "crops")
    with open_source(clip) as source, pytest.raises(ZeroDivisionError), open_sinks(source, outputs):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_paths_of_outputs(tmp_path):
    assert Outputs(save=STANDARD_OUTPUT, crops=tmp_path).paths == [STANDARD_OUTPUT, tmp_path]


def test_every_sink_is_discarded_even_if_one_fails():
    class Failing(Sink):
        def write(self, result):
            pass

        def discard(self):
            raise OSError("gone")

    class Noted(Failing):
        discarded = False

        def discard(self):
            self.discarded = True

    noted = Noted(), Noted()
    with pytest.raises(OSError, match="gone"):
        Sinks([noted[0], Failing(), noted[1]]).discard()
    assert all(one.discarded for one in noted)


class FailingAt(Sink):
    """A sink whose disk is full at a frame, or at the end."""

    def __init__(self, frame=None):
        self.frame, self.written, self.ended = frame, 0, ""

    def write(self, result):
        if result.index == self.frame:
            raise SinkError("cannot write x: No space left on device")
        self.written += 1

    def complete(self, *, interrupted=False):
        self.ended = "completed"
        if self.frame is None:
            raise SinkError("cannot write x: No space left on device")

    def discard(self):
        self.ended = self.ended or "discarded"


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("frame", [2, None])
def test_a_sink_that_fails_takes_only_itself_down(frame, live, tmp_path, make_result, square_frame):
    bad, good = FailingAt(frame), JsonLinesSink(tmp_path / "good.jsonl")
    sinks = Sinks([bad, good], live=live)
    with pytest.raises(WriteError, match=r"cannot write x: No space left on device; kept: .*good\.jsonl$"), sinks:
        for index in range(5):
            sinks.write(make_result(square_frame, index))
        assert (bad.written, sinks.failed) == (5 if frame is None else 2, False)
    assert len((tmp_path / "good.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert bad.ended == ("completed" if frame is None else "discarded")
    assert [path.name for path in tmp_path.iterdir()] == ["good.jsonl"]


def test_no_sink_is_left(make_result, square_frame):
    sinks = Sinks([FailingAt(0)])
    sinks.write(make_result(square_frame))
    assert sinks.failed
    assert not sinks
    assert not Sinks().failed


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_recording_of_a_live_source_is_completed_whatever_happens(error, tmp_path, make_result, square_frame):
    video = VideoSink(tmp_path / "rec.mp4", VideoTiming(Fraction(1, 1000), Fraction(25)), live=True)
    with pytest.raises(error), Sinks([FailingAt(), video], live=True) as sinks:
        sinks.write(make_result(square_frame, 0, 0))
        raise error
    with av.open(str(tmp_path / "rec.mp4")) as container:
        assert len(list(container.decode(video=0))) == 1


def test_what_a_live_source_gave_before_its_disk_was_full_is_kept(tmp_path, make_result, square_frame, monkeypatch):
    sink = JsonLinesSink(tmp_path / "rec.jsonl", live=True)
    with (
        pytest.raises(WriteError, match=r"cannot write x; kept: .*rec\.recovered-1\.jsonl"),
        Sinks([sink], live=True) as sinks,
    ):
        sinks.write(make_result(square_frame))
        monkeypatch.setattr(sink, "write", Mock(side_effect=SinkError("cannot write x")))
        sinks.write(make_result(square_frame, 1))
    assert len((tmp_path / "rec.recovered-1.jsonl").read_text(encoding="utf-8").splitlines()) == 1
