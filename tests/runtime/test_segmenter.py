from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import PIL.Image
import pytest

from pumpseg import OptionError, PumpsegError, Segmenter, SourceError, Zone, ZoneCounter, open_source
from pumpseg.inference.model import Model
from pumpseg.video import Source


@pytest.fixture(scope="module")
def segmenter(model_path):
    return Segmenter(model_path, provider="cpu", threads=1)


def frame_with_red_square(height=128, width=96):
    frame = np.zeros((height, width, 3), np.uint8)
    frame[32:64, 32:64] = (0, 0, 255)
    return frame


def test_instances_are_in_frame_pixels(segmenter):
    # 128x96 is letterboxed by one half, so input cell (1, 1) is the frame's 32..64.
    instances = segmenter(frame_with_red_square())
    np.testing.assert_array_equal(instances.boxes, [[32, 32, 64, 64]])
    assert instances.scores.dtype == np.float32
    assert instances.class_ids.dtype == np.int64
    assert instances.labels == ("pumpkin",)
    masks = instances.masks
    assert masks.shape == (1, 128, 96)
    assert masks[0, 32:64, 32:64].all()
    assert masks.sum() == 32 * 32


def test_the_model_sees_rgb(segmenter):
    assert len(segmenter(frame_with_red_square()[:, :, ::-1])) == 0


def test_weak_instances_are_left_out(model_path):
    frame = frame_with_red_square()
    frame[frame > 0] = 200
    assert len(Segmenter(model_path, threshold=0.5)(frame)) == 1
    assert len(Segmenter(model_path, threshold=0.9)(frame)) == 0


def test_nothing_found(blind_model_path):
    instances = Segmenter(blind_model_path)(frame_with_red_square())
    assert len(instances) == 0
    assert instances.masks.shape == (0, 128, 96)


def test_timings(segmenter):
    _, timings = segmenter.timed(frame_with_red_square())
    assert min(timings.pre, timings.session, timings.post) > 0


def test_threads_share_a_segmenter(segmenter):
    frames = []
    for i in range(24):
        frame = np.zeros((64, 64, 3), np.uint8)
        row, column = divmod(i % 16, 4)
        frame[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255
        frames.append(frame)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segmenter, frames * 5))
    for i, instances in enumerate(found):
        row, column = divmod(i % 24 % 16, 4)
        np.testing.assert_array_equal(instances.boxes[:, :2], [[16 * column, 16 * row]])


@pytest.mark.parametrize("frame", [None, {}, [1], np.zeros((4, 4)), np.zeros((2, 4, 4, 3), np.uint8)])
def test_other_values_than_images_are_refused(segmenter, frame):
    with pytest.raises(ValueError, match="a frame must "):
        segmenter(frame)


def test_frames_need_not_be_contiguous(segmenter):
    wide = np.zeros((128, 192, 3), np.uint8)
    wide[:, ::2] = frame_with_red_square()
    np.testing.assert_array_equal(segmenter(wide[:, ::2]).boxes, [[32, 32, 64, 64]])


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.5},
        {"threshold": -0.1},
        {"threshold": "0.5"},
        {"threads": 0},
        {"threads": 1.5},
        {"threads": 100_000},
        {"tiles": 1.5},
        {"tiles": True},
    ],
)
def test_wrong_settings_are_refused(model_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Segmenter(model_path, **options)


def test_an_array_a_path_a_pil_image_or_several(segmenter, tmp_path):
    frame = frame_with_red_square()
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    picture = PIL.Image.fromarray(frame[..., ::-1].copy())
    images = [frame, tmp_path / "a.png", str(tmp_path / "a.png"), picture, picture.convert("RGBA")]
    found = segmenter.predict(images)
    assert isinstance(found, list)
    for instances in (*found, segmenter(frame), segmenter.predict(picture)):
        np.testing.assert_array_equal(instances.boxes, [[32, 32, 64, 64]])
    assert segmenter(()) == []


def test_an_image_that_cannot_be_read_is_named(segmenter, tmp_path):
    with pytest.raises(SourceError, match=r"cannot read .*none\.jpg: No such file"):
        segmenter(tmp_path / "none.jpg")


def test_the_threshold_is_the_models_own_unless_given(make_model, metadata, caplog):
    path = make_model(metadata | {"recommended_threshold": 0.9})
    frame = frame_with_red_square()
    frame[frame > 0] = 200
    with caplog.at_level("INFO", "pumpseg"):
        recommended, given = Segmenter(path, provider="cpu"), Segmenter(path, provider="cpu", threshold=0.5)
    assert [message for message in caplog.messages if "threshold" in message] == [
        f"threshold 0.9, which {path.name} recommends"
    ]
    assert (recommended.threshold, given.threshold) == (0.9, 0.5)
    assert (len(recommended(frame)), len(given(frame))) == (0, 1)
    assert Segmenter(make_model(), provider="cpu").threshold == 0.5


def test_a_segmenter_says_what_it_is(segmenter, model_path):
    assert repr(segmenter) == (
        "Segmenter(bright.onnx on cpu, threshold 0.5, ModelInfo(edge, float32, 64x64, classes: pumpkin))"
    )
    assert "tiles 2" in repr(Segmenter(model_path, provider="cpu", tiles=2))
    assert segmenter.class_names == ("pumpkin",)
    assert segmenter.path == model_path


def test_a_segmenter_can_be_closed(model_path):
    with Segmenter(model_path, provider="cpu") as segmenter:
        assert len(segmenter(frame_with_red_square())) == 1
    with pytest.raises(PumpsegError, match="is closed"):
        segmenter(frame_with_red_square())


def test_stream_yields_results(segmenter, clip):
    results = list(segmenter.stream(clip))
    assert [result.index for result in results] == list(range(20))
    assert [result.time for result in results] == pytest.approx([0.04 * i for i in range(20)])
    assert all(result.frame.shape == (64, 96, 3) and len(result.instances) for result in results)


@pytest.fixture
def opened(monkeypatch):
    """The numbers of threads of the sessions that are opened."""
    opened = []
    open_model = Model.open

    def noted(*arguments, threads=None, **options):
        opened.append(threads)
        return open_model(*arguments, threads=threads, **options)

    monkeypatch.setattr(Model, "open", noted)
    return opened


def test_a_file_is_streamed_with_a_thread_for_each_frame(model_path, clip, opened):
    with Segmenter(model_path, provider="cpu", threads=3, threshold=0.6) as segmenter:
        alone = [segmenter.predict(frame.image).scores for frame in open_source(clip)]
        for _ in range(2):
            streamed = [result.instances.scores for result in segmenter.stream(clip)]
            assert [list(scores) for scores in streamed] == [list(scores) for scores in alone]
        assert opened == [3, 1], "a second session, opened once"
        segmenter.threshold = 1.0
        assert not any(len(result.instances) for result in segmenter.stream(clip))
    with Segmenter(model_path, provider="cpu", threads=3) as segmenter:
        assert len(list(segmenter.stream(clip, workers=2))) == 20
    assert opened == [3, 1, 3], "workers of one's own choice share the session"


def test_several_sources_are_streamed_by_one_segmenter(segmenter, clip, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), frame_with_red_square())
    zones = [ZoneCounter([Zone("all", [(0, 0), (1, 0), (1, 1), (0, 1)])]), None, None]
    results = list(segmenter.stream([clip, tmp_path / "photo.png", open_source(clip)], zones=zones))
    alone = [list(result.instances.scores) for result in segmenter.stream(clip)]
    for number in (0, 2):
        mine = [result for result in results if result.source_number == number]
        assert [result.index for result in mine] == list(range(20))
        assert [list(result.instances.scores) for result in mine] == alone
        assert {result.source for result in mine} == {str(clip)}
        assert all((result.counts is None) == (number == 2) for result in mine)
    photo = [result for result in results if result.source_number == 1]
    assert [result.source for result in photo] == [str(tmp_path / "photo.png")]
    track_ids = {0: [], 1: []}
    for result in segmenter.stream([clip, clip], track=True):
        track_ids[result.source_number].extend(result.instances.track_ids)
    assert track_ids[0] == track_ids[1]
    assert max(track_ids[0]) > 0


def test_sources_share_the_threads(model_path, clip, opened):
    with Segmenter(model_path, provider="cpu", threads=5) as segmenter:
        for _ in range(2):
            assert len(list(segmenter.stream([clip, clip, clip]))) == 60
        assert opened == [5, 3]
        assert len(list(segmenter.stream(clip))) == 20
        assert opened == [5, 3, 1]


def test_two_streams_of_one_segmenter_run_at_the_same_time(segmenter, clip):
    pairs = list(zip(segmenter.stream(clip), segmenter.stream([clip]), strict=True))
    assert len(pairs) == 20
    for one, other in pairs:
        assert one.index == other.index
        np.testing.assert_array_equal(one.instances.boxes, other.instances.boxes)


class Noted(Source):
    """A source of which one can see whether it was closed."""

    name, closed = "noted", False

    def __iter__(self):
        return iter(())

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("more", "options", "error", "message"),
    [
        (["none.mp4"], {}, SourceError, "none.mp4"),
        ([7], {}, OptionError, r"^a source must be a str, a Path or a Source, got int$"),
        ([], {"track": True}, SourceError, "noted is still images"),
        (["demo"], {"zones": [None]}, OptionError, r"^zones must be a list with one or None for each of 2 sources$"),
        (["demo"] * 64, {}, OptionError, r"^65 sources are more than 64; images in a folder or a .txt list are one"),
        ([], {"workers": 0}, OptionError, "workers must be at least 1"),
    ],
)
def test_wrong_sources_are_refused_at_once_and_leave_nothing_open(
    segmenter, more, options, error, message, monkeypatch
):
    opened = []

    def noted(name):
        if name != "noted":
            return open_source(name)
        opened.append(Noted())
        return opened[-1]

    monkeypatch.setattr("pumpseg.video.open_source", noted)
    with pytest.raises(error, match=message):
        segmenter.stream(["noted", *more], **options)
    assert all(source.closed for source in opened)


def test_no_source_at_all_is_refused(segmenter):
    with pytest.raises(OptionError, match="the list of sources is empty"):
        segmenter.stream([])
    with pytest.raises(OptionError, match="got ndarray"):
        segmenter.stream(frame_with_red_square())
