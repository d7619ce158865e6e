import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pumpseg import Instances
from pumpseg.errors import SinkError
from pumpseg.frames import Frame, VideoTiming
from pumpseg.sinks import ImageSink, JsonLinesSink, frame_record, open_sinks
from pumpseg.sources import ImageSource, open_source
from pumpseg.video_sink import VideoSink

TIMING = VideoTiming(Fraction(1, 1000), Fraction(25))


def write_video(target, moments, size=(64, 96), timing=TIMING, audio_from=None, **ending):
    sink = VideoSink(target, timing, audio_from)
    for i, moment in enumerate(moments):
        picture = np.full((*size, 3), (30, 20 * (i % 12), 200), np.uint8)
        sink.write(Frame(picture, "x", i, moment / 1000, moment), Instances.empty(size), picture)
    sink.complete(**ending)


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pts_survive_even_at_a_variable_rate(tmp_path, suffix):
    moments = [0, 40, 200, 210, 700, 1500, 1501]
    write_video(tmp_path / f"out{suffix}", moments)
    assert [moment for moment, _ in read_video(tmp_path / f"out{suffix}")] == [Fraction(m, 1000) for m in moments]


@pytest.mark.parametrize("size", [(63, 95), (64, 95), (63, 96), (2, 2), (1, 1)])
def test_odd_sizes_are_padded(tmp_path, size):
    write_video(tmp_path / "out.mp4", [0, 40], size)
    images = [image for _, image in read_video(tmp_path / "out.mp4")]
    assert images[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


def test_the_video_is_what_players_expect(tmp_path):
    write_video(tmp_path / "out.mp4", range(0, 400, 40))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_colours_survive(tmp_path):
    write_video(tmp_path / "out.mp4", [0])
    ((_, image),) = read_video(tmp_path / "out.mp4")
    assert abs(image.astype(int) - (30, 0, 200)).max() <= 4


def audio_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return stream.codec_context.name, [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(stream) if packet.size
        ]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "libopus"), (".mkv", "flac")])
def test_audio_is_copied_packet_by_packet(tmp_path, make_clip, suffix, codec):
    source = make_clip(tmp_path / f"in{suffix}", frames=30, audio=codec)
    write_video(tmp_path / "out.mp4", range(0, 1200, 40), audio_from=source)
    before, after = audio_packets(source), audio_packets(tmp_path / "out.mp4")
    assert after[0] == before[0]
    assert [data for _, data in after[1]] == [data for _, data in before[1]]
    # A codec's priming is stored differently by each container: up to two packets of it.
    np.testing.assert_allclose([t for t, _ in after[1]], [t for t, _ in before[1]], atol=0.08)
    assert len(read_video(tmp_path / "out.mp4")) == 30


def test_audio_ends_with_an_interrupted_video(tmp_path, make_clip):
    source = make_clip(tmp_path / "in.mp4", frames=50, audio="aac")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio_from=source, interrupted=True)
    assert audio_packets(tmp_path / "out.mp4")[1][-1][0] < 0.5


def test_audio_that_does_not_fit_is_left_out_with_a_warning(tmp_path, make_clip, caplog):
    source = make_clip(tmp_path / "in.mkv", frames=10, audio="wavpack")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio_from=source)
    assert len(read_video(tmp_path / "out.mp4")) == 10
    assert caplog.messages == ["audio (wavpack) does not fit into out.mp4 and is left out"]


def test_a_video_that_is_given_up_leaves_nothing(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    picture = np.zeros((64, 96, 3), np.uint8)
    sink.write(Frame(picture, "x", 0, 0, 0), Instances.empty((64, 96)), picture)
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
    assert not (tmp_path / "out.mp4").exists()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_changes_on_the_way_is_scaled(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    for i, size in enumerate([(64, 96), (32, 48)]):
        picture = np.full((*size, 3), 90, np.uint8)
        sink.write(Frame(picture, "x", i, i / 25, 40 * i), Instances.empty(size), picture)
    sink.complete()
    assert [image.shape for _, image in read_video(tmp_path / "out.mp4")] == [(64, 96, 3)] * 2


@pytest.mark.parametrize("name", ["out.avi", "out", "no/such/folder/out.mp4"])
def test_places_and_formats_that_cannot_be_written(tmp_path, name):
    with pytest.raises(SinkError, match="cannot write"):
        VideoSink(tmp_path / name, TIMING)


def test_outputs_never_replace_inputs(tmp_path, make_clip):
    source = open_source(make_clip(tmp_path / "in.mp4", frames=2))
    before = (tmp_path / "in.mp4").read_bytes()
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, save=tmp_path / "x" / ".." / "in.mp4")
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, json_lines=tmp_path / "in.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, save=tmp_path / "link.mp4")
    assert (tmp_path / "in.mp4").read_bytes() == before


def test_images_are_not_saved_over_themselves(tmp_path):
    source = ImageSource(str(tmp_path), [tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(SinkError, match="is an input"):
        open_sinks(source, save=tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    source = ImageSource("*", [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"])
    with pytest.raises(SinkError, match="two outputs"):
        open_sinks(source, save=tmp_path / "out")


def test_several_images_need_a_folder(tmp_path):
    source = ImageSource("*", [tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(SinkError, match="name a folder"):
        open_sinks(source, save=tmp_path / "out.mp4")


def test_a_sink_that_cannot_open_takes_the_others_along(tmp_path, clip):
    with pytest.raises(SinkError):
        open_sinks(open_source(clip), save=tmp_path / "out.avi", json_lines=tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.xyz", "out.mp4"])
def test_an_unknown_image_format(tmp_path, name):
    with pytest.raises(SinkError, match="no image format"):
        ImageSink(tmp_path / name)


def test_an_image_is_written(tmp_path, square_frame):
    sink = ImageSink(tmp_path / "out.png")
    sink.write(Frame(square_frame, "x", 0, 0), Instances.empty((64, 96)), square_frame)
    sink.complete()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), square_frame)


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
        object.__setattr__(instances, "ids", np.arange(len(instances)))
    record = json.loads(json.dumps(frame_record(Frame(np.zeros((80, 100, 3), np.uint8), "a.mp4", 5, time), instances)))
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
        assert one.get("id") == (i if tracked else None)


def test_a_full_disk_leaves_no_partial_file(tmp_path):
    sink = JsonLinesSink(tmp_path / "out.jsonl")

    def refuse():
        raise OSError(28, "No space left on device")

    sink._lines.close()
    sink._lines = type("FullDisk", (), {"close": staticmethod(refuse)})()
    sink.discard()
    assert list(tmp_path.iterdir()) == []
