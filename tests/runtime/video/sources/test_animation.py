import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import SourceError
from pumpseg.video.sources.animation import AnimationSource


@pytest.fixture
def animation(tmp_path):
    images = [Image.fromarray(np.full((64, 96, 3), (200, 40 * i, 10), np.uint8)) for i in range(4)]
    images[0].save(
        tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=[50, 200, 0, 100], lossless=True
    )
    return tmp_path / "a.webp"


def test_frames_come_at_their_times(animation):
    source = AnimationSource(animation)
    frames = list(source)
    assert (source.length, source.inputs, float(source.timing.rate)) == (4, (animation,), pytest.approx(4 / 0.45))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.05, 0.25, 0.35])
    assert [frame.image[0, 0].tolist() for frame in frames] == [[10, 40 * i, 200] for i in range(4)]


def test_a_damaged_animation(animation):
    animation.write_bytes(animation.read_bytes()[:60])
    with pytest.raises(SourceError, match="is damaged"):
        AnimationSource(animation)


def test_an_animation_that_takes_more_than_the_memory(animation):
    content = animation.read_bytes()
    animation.write_bytes(content[:24] + b"\xff\x3f\0\xff\x3f\0" + content[30:])
    with pytest.raises(SourceError, match="4 frames of 16384x16384: convert it to a video"):
        AnimationSource(animation)
