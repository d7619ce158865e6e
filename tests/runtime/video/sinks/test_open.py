import pytest

from pumpseg.errors import SinkError
from pumpseg.video import Sink
from pumpseg.video.sinks.open import STANDARD_OUTPUT, Outputs, Sinks, open_sinks
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
