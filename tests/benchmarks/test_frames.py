import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.errors import SourceError
from pumpseg.video.sources.open import open_source
from pumpseg_bench.frames import showing, write_frames


def test_frames_come_from_all_of_a_source(tmp_path):
    frames = write_frames("demo", tmp_path / "frames", distinct=4)
    assert (frames.count, frames.height, frames.width) == (4, 480, 640)
    images = [frame.image for frame in open_source("demo")]
    frame = frames.empty()
    for i in (3, 0, 6):
        frames.read(i, frame)
        np.testing.assert_array_equal(frame, images[30 * (i % 4)])


def test_synthetic_frames_differ(tmp_path):
    frames = write_frames("synthetic", tmp_path / "frames", distinct=3)
    first, second = frames.empty(), frames.empty()
    frames.read(0, first)
    frames.read(1, second)
    assert (first != second).any()
    assert frames.count == 3


def test_a_source_without_frames_is_refused(tmp_path):
    with pytest.raises(SourceError):
        write_frames(str(tmp_path), tmp_path / "frames")


def test_frames_that_show_a_number_of_instances(photo):
    segmenter = Segmenter("fast-fp32", provider="cpu", threads=1)
    image = next(iter(open_source(photo))).image
    seen = len(segmenter(image))
    assert seen >= 2
    (covered,) = showing(1, [image], segmenter)
    assert len(segmenter(covered)) == 1
    assert (covered != image).any()
    (as_it_is,) = showing(seen, [image], segmenter)
    np.testing.assert_array_equal(as_it_is, image)
    assert not list(showing(seen + 1, [image], segmenter))
