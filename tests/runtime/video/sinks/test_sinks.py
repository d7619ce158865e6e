import contextlib
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pumpseg import Instances
from pumpseg.errors import SinkError
from pumpseg.video.sinks.images import CropSink, FrameFolderSink, ImageSink
from pumpseg.video.sinks.json import CocoIds, CocoSink, JsonLinesSink, frame_record
from pumpseg.video.sinks.open import Outputs, open_sinks
from pumpseg.video.sinks.video import VideoSink
from pumpseg.video.sources.frame_source import Frame, VideoTiming
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_source

TIMING = VideoTiming(Fraction(1, 1000), Fraction(25))


def write_video(target, moments, size=(64, 96), timing=TIMING, audio=None, **ending):
    sink = VideoSink(target, timing, audio)
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
    write_video(tmp_path / "out.mp4", range(0, 1200, 40), audio=source)
    before, after = audio_packets(source), audio_packets(tmp_path / "out.mp4")
    assert after[0] == before[0]
    assert [data for _, data in after[1]] == [data for _, data in before[1]]
    # A codec's priming is stored differently by each container: up to two packets of it.
    np.testing.assert_allclose([t for t, _ in after[1]], [t for t, _ in before[1]], atol=0.08)
    assert len(read_video(tmp_path / "out.mp4")) == 30


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_channels_that_a_container_does_not_name_are_the_usual_ones(tmp_path, make_clip, suffix):
    source = make_clip(tmp_path / f"in{suffix}", frames=10, audio="pcm_s16le", channels="stereo")
    with av.open(str(source)) as container:
        assert container.streams.audio[0].codec_context.layout.name == "2 channels"
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.layout.name == "stereo"
    assert b"".join(data for _, data in audio_packets(tmp_path / "out.mp4")[1]) == b"".join(
        data for _, data in audio_packets(source)[1]
    )


def test_audio_ends_with_an_interrupted_video(tmp_path, make_clip):
    source = make_clip(tmp_path / "in.mp4", frames=50, audio="aac")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source, interrupted=True)
    assert audio_packets(tmp_path / "out.mp4")[1][-1][0] < 0.5


def test_audio_that_does_not_fit_is_left_out_with_a_warning(tmp_path, make_clip, caplog):
    source = make_clip(tmp_path / "in.mkv", frames=10, audio="wavpack")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source)
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


@pytest.mark.parametrize("name", ["out.xyz", "out.mp4"])
def test_an_unknown_image_format(tmp_path, name):
    with pytest.raises(SinkError, match="is not an image format"):
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
        instances = instances.with_track_ids(np.arange(len(instances)))
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

    sink._text._out.close()
    sink._text._out = type("FullDisk", (), {"close": staticmethod(refuse)})()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def found_in(size, boxes, name="pumpkin"):
    """Instances whose masks fill their boxes."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    scores = np.linspace(0.9, 0.6, count, dtype=np.float32)
    masks = np.ones((count, 4, 4), np.float32)
    return Instances.in_frame(boxes, scores, np.zeros(count, np.int64), masks, size, [name])


def test_cutouts_are_transparent_outside_the_mask(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    instances = found_in((60, 80), [(10, 20, 30, 50), (40, 5, 60, 25)])
    instances.cells.probabilities[1, :, 2:] = 0
    for of_video, index, stem in ((False, 0, "a b"), (True, 7, "a b-000007")):
        names = [f"{stem}-00.png", f"{stem}-01.png"]
        folder = tmp_path / str(of_video)
        sink = CropSink(folder, of_video=of_video)
        sink.write(Frame(picture, "x/a b.mp4", index, 0), instances, None)
        sink.complete()
        sink.discard()
        assert sorted(path.name for path in folder.iterdir()) == names
        whole = cv2.imread(str(folder / names[0]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(whole[..., :3], picture[20:50, 10:30])
        assert (whole[..., 3] == 255).all()
        alpha = cv2.imread(str(folder / names[1]), cv2.IMREAD_UNCHANGED)[..., 3]
        np.testing.assert_array_equal(alpha == 255, instances.crop_masks[1].mask)
        assert set(np.unique(alpha)) == {0, 255}


def test_a_camera_s_name_makes_file_names(tmp_path):
    sink = CropSink(tmp_path / "cut", of_video=True)
    frame = Frame(np.zeros((60, 80, 3), np.uint8), "rtsp://cam:554/a?b=c", 3, 0)
    sink.write(frame, found_in((60, 80), [(0, 0, 9, 9)]), None)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["a_b_c-000003-00.png"]


def test_audio_that_is_gone_is_told_and_leaves_nothing(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", TIMING, str(tmp_path / "gone.mp4"))
    picture = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(SinkError, match=r"cannot read the audio of .*gone\.mp4"):
        sink.write(Frame(picture, "x", 0, 0.0, 0), Instances.empty((16, 16)), picture)
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_cutouts_of_two_images_do_not_get_the_same_names(tmp_path):
    with pytest.raises(SinkError, match=r"crops of a\.jpg and b.a\.png would have the same names"):
        CropSink(tmp_path / "cut", (Path("a.jpg"), Path("b/a.png")), of_video=False)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_video_go_into_a_folder(tmp_path):
    sink = FrameFolderSink(tmp_path / "frames")
    for i in range(3):
        picture = np.full((8, 8, 3), 40 * i, np.uint8)
        sink.write(Frame(picture, "x", i, 0), Instances.empty((8, 8)), picture)
    sink.complete()
    sink.discard()
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["000000.jpg", "000001.jpg", "000002.jpg"]
    with pytest.raises(SinkError, match="holds frames already"):
        FrameFolderSink(tmp_path / "frames")


def test_a_folder_that_stays_empty_is_taken_away(tmp_path):
    for sink in (FrameFolderSink(tmp_path / "frames"), CropSink(tmp_path / "cut", of_video=True)):
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def coco_results(tmp_path, ids, names=("b.png", "a.png"), class_name="pumpkin"):
    sink = CocoSink(tmp_path / "coco.json", [class_name], ids)
    for name in names:
        boxes = [(10, 20, 30, 50), (40, 5, 60, 25)] if name == "a.png" else [(1, 2, 3.5, 4)]
        sink.write(Frame(np.zeros((60, 80, 3), np.uint8), f"x/{name}", 0, 0), found_in((60, 80), boxes), None)
    sink.complete()
    return json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))


def test_coco_results_count_frames_and_classes_from_one(tmp_path):
    results = coco_results(tmp_path, None)
    assert [(one["image_id"], one["category_id"], one["file_name"]) for one in results] == [
        (1, 1, "b.png"),
        (2, 1, "a.png"),
        (2, 1, "a.png"),
    ]
    assert results[0]["bbox"] == [1, 2, 2.5, 2]


def test_coco_results_score_against_their_data_set(tmp_path):
    images = [{"id": 70 + i, "file_name": f"images/{n}.png", "height": 60, "width": 80} for i, n in enumerate("ab")]
    instances = {70: found_in((60, 80), [(10, 20, 30, 50), (40, 5, 60, 25)]), 71: found_in((60, 80), [(1, 2, 3.5, 4)])}
    annotations = [
        {"id": 10 * image + i, "image_id": image, "category_id": 9, "iscrowd": 0, "area": 100, "segmentation": rle}
        | {"bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]}
        for image, found in instances.items()
        for i, (rle, box) in enumerate(zip(found.to_rle(), found.boxes, strict=True))
    ]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 9, "name": "pumpkin"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    results = coco_results(tmp_path, CocoIds.read(tmp_path / "truth.json"))
    numbers = {(one["file_name"], one["image_id"], one["category_id"]) for one in results}
    assert numbers == {("a.png", 70, 9), ("b.png", 71, 9)}
    data_set = COCO(str(tmp_path / "truth.json"))
    scored = COCOeval(data_set, data_set.loadRes(str(tmp_path / "coco.json")), "segm")
    for step in (scored.evaluate, scored.accumulate, scored.summarize):
        step()
    assert scored.stats[0] == pytest.approx(1)


def test_coco_ids_that_do_not_fit(tmp_path):
    ids = CocoIds({"a.png": 1}, {"pumpkin": 1})
    with pytest.raises(SinkError, match="no class apple; it has pumpkin"):
        coco_results(tmp_path, ids, class_name="apple")
    with pytest.raises(SinkError, match="is not among the images of the data set"):
        coco_results(tmp_path, ids)
    with pytest.raises(SinkError, match=r"b\.png is not among the images"):
        CocoSink(tmp_path / "x.json", ["pumpkin"], ids, [Path("a.png"), Path("b.png")])
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SinkError, match="is no COCO json"):
        CocoIds.read(tmp_path / "list.json")


@pytest.mark.parametrize("names", [(), ("none.png",)])
def test_coco_results_of_nothing_are_an_empty_list(tmp_path, names):
    sink = CocoSink(tmp_path / "coco.json", ["pumpkin"])
    for name in names:
        sink.write(Frame(np.zeros((60, 80, 3), np.uint8), name, 0, 0), Instances.empty((60, 80)), None)
    sink.complete()
    assert json.loads((tmp_path / "coco.json").read_text(encoding="utf-8")) == []


def test_av1(tmp_path, capfd):
    sink = VideoSink(tmp_path / "out.mp4", TIMING, codec="av1")
    moments = [0, 40, 200, 210]
    for i, moment in enumerate(moments):
        picture = np.full((64, 96, 3), 40 * i, np.uint8)
        sink.write(Frame(picture, "x", i, moment / 1000, moment), Instances.empty((64, 96)), picture)
    sink.complete()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name.endswith(("av1", "dav1d"))
    frames = read_video(tmp_path / "out.mp4")
    assert [moment for moment, _ in frames] == [Fraction(m, 1000) for m in moments]
    assert [round(float(image.mean()) / 40) for _, image in frames] == [0, 1, 2, 3]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_live_recording_can_be_read_before_it_is_complete(tmp_path, suffix):
    sink = VideoSink(tmp_path / f"out{suffix}", TIMING, live=True)
    rng = np.random.default_rng(0)
    for i in range(600):
        picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
        sink.write(Frame(picture, "x", i, i / 25, 40 * i), Instances.empty((64, 96)), picture)
    (partial,) = tmp_path.iterdir()
    readable = 0
    with av.open(str(partial)) as container, contextlib.suppress(av.InvalidDataError):
        for _ in container.decode(video=0):
            readable += 1
    assert readable > 200
    sink.complete()
    assert len(read_video(tmp_path / f"out{suffix}")) == 600


@pytest.mark.parametrize(("time_base", "rate"), [(Fraction(1, 1000), Fraction(0)), (Fraction(0), Fraction(25))])
def test_a_rate_of_zero_is_refused(tmp_path, time_base, rate):
    timing = VideoTiming(time_base, rate)
    with pytest.raises(SinkError, match="needs a frame rate above 0"):
        VideoSink(tmp_path / "out.mp4", timing)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_changes_is_told_once(tmp_path, caplog):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    for i, size in enumerate([(64, 96), (32, 48), (32, 48)]):
        picture = np.full((*size, 3), 90, np.uint8)
        sink.write(Frame(picture, "x", i, i / 25, 40 * i), Instances.empty(size), picture)
    sink.complete()
    assert caplog.messages == [f"{tmp_path / 'out.mp4'}: the picture changes to 48x32 and is scaled to 96x64"]


def test_damaged_audio_ends_early_and_the_video_is_whole(tmp_path, make_clip, caplog):
    source = make_clip(tmp_path / "in.mp4", frames=50, audio="aac", faststart=True)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 9 // 10])
    write_video(tmp_path / "out.mp4", range(0, 2000, 40), audio=source)
    assert len(read_video(tmp_path / "out.mp4")) == 50


def test_orphans_of_a_killed_process_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".part-{gone.pid}-out.jsonl").write_text("half", encoding="utf-8")
    (tmp_path / f".part-{gone.pid}-other.jsonl").touch()
    (tmp_path / f".part-{os.getppid()}-out.jsonl").touch()
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    sink.discard()
    kept = {f".part-{gone.pid}-other.jsonl", f".part-{os.getppid()}-out.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == kept
