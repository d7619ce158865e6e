"""A video as a camera."""

import time

import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.video_file import VideoSource
from pumpseg.watch.clip_capture import ClipCapture


def test_it_plays_in_real_time_and_over_again(clip):
    capture = ClipCapture(VideoSource(clip), lambda: VideoSource(clip))
    start = time.perf_counter()
    frames = [capture.read() for _ in range(45)]
    took = time.perf_counter() - start
    capture.close()
    assert took >= 44 * 0.04 - 0.05
    np.testing.assert_array_equal(frames[0][0], frames[20][0])
    np.testing.assert_array_equal(frames[3][0], frames[43][0])
    moments = [moment for _, moment in frames]
    assert moments == sorted(moments)


def test_closing_ends_the_wait(clip):
    capture = ClipCapture(VideoSource(clip), lambda: VideoSource(clip))
    capture.read()
    capture.close()
    with pytest.raises(SourceError):
        capture.read()


def test_still_images_are_refused(tmp_path):
    with pytest.raises(SourceError, match="not a video or a camera"):
        ClipCapture(ImageSource("x", [tmp_path / "x.png"]), lambda: None)
