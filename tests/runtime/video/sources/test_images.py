import cv2
import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources.images import ImageSource


@pytest.fixture
def paths(tmp_path, square_frame):
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.PNG")]
    for path in paths:
        cv2.imwrite(str(path), square_frame)
    return paths


def test_an_image(paths, square_frame):
    (frame,) = ImageSource("a", paths[:1])
    np.testing.assert_array_equal(frame.image, square_frame)
    assert (frame.source, frame.index, frame.time, frame.pts) == (str(paths[0]), 0, 0.0, None)


def test_images_come_in_order(paths):
    source = ImageSource("folder", paths)
    assert [frame.source for frame in source] == [str(path) for path in paths]
    assert (source.length, source.inputs, source.timing, source.live) == (3, tuple(paths), None, False)


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_damaged_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"bad\.png is damaged"):
        list(ImageSource("bad.png", [tmp_path / "bad.png"]))


def test_a_damaged_image_among_several_is_left_out(paths, caplog):
    paths[1].write_bytes(b"text")
    source = ImageSource("folder", paths)
    assert [frame.source for frame in source] == [str(paths[0]), str(paths[2])]
    assert source.failed == 1
    assert caplog.messages == [f"left out: {paths[1]} is damaged, or not an image of a kind that OpenCV reads"]


def test_images_that_are_all_damaged_are_an_error(paths):
    for path in paths:
        path.write_bytes(b"text")
    with pytest.raises(SourceError, match="damaged"):
        list(ImageSource("folder", paths))
