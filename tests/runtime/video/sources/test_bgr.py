import gc
from collections.abc import Mapping
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pumpseg.video.sources.bgr import BgrConverter, Turn, shown_pixel_aspect

# Display matrices (a, b, c, d) and where they put the corners of W.R.: top left, top right, bottom left, bottom right.
MATRICES = {
    "as stored": ((1, 0, 0, 1), "W.R."),
    "a quarter to the right": ((0, 1, -1, 0), "RW.."),
    "a quarter to the left": ((0, -1, 1, 0), "..WR"),
    "a half": ((-1, 0, 0, -1), ".R.W"),
    "left and right change places": ((-1, 0, 0, 1), ".W.R"),
    "top and bottom change places": ((1, 0, 0, -1), "R.W."),
    "along the diagonal": ((0, 1, 1, 0), "WR.."),
    "along the other diagonal": ((0, -1, -1, 0), "..RW"),
    "zeros": ((0, 0, 0, 0), "W.R."),
    "45 degrees": ((0.7, 0.7, -0.7, 0.7), "W.R."),
}


def display_matrix(numbers):
    a, b, c, d = (round(value * 65536) for value in numbers)
    return np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()


def corners(image):
    letters = {(255, 255, 255): "W", (0, 0, 255): "R", (0, 0, 0): "."}
    return "".join(letters[tuple(map(int, image[y, x]))] for y in (0, -1) for x in (0, -1))


@pytest.mark.parametrize("name", MATRICES)
def test_a_picture_is_turned_and_mirrored_as_players_show_it(name):
    matrix, expected = MATRICES[name]
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0], image[-1, 0] = 255, (0, 0, 255)
    turned = Turn.by_matrix(display_matrix(matrix)).apply(image)
    assert corners(turned) == expected
    assert turned.shape == ((6, 4, 3) if matrix[0] == 0 and matrix[1] else (4, 6, 3))


@pytest.mark.parametrize(("matrix", "expected"), [((0, 1, -1, 0), Fraction(3, 4)), ((-1, 0, 0, 1), Fraction(4, 3))])
def test_the_shape_of_pixels_is_turned_with_quarter_turns_only(matrix, expected):
    stream = SimpleNamespace(
        sample_aspect_ratio=None, codec_context=SimpleNamespace(sample_aspect_ratio=Fraction(4, 3))
    )
    assert shown_pixel_aspect(Turn.by_matrix(display_matrix(matrix)), stream) == expected
    stream.codec_context.sample_aspect_ratio = None
    assert shown_pixel_aspect(Turn.by_matrix(display_matrix(matrix)), stream) == 1


def test_a_mirrored_file(tmp_path, make_clip):
    def mirror(stream):
        stream.set_display_matrix([-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30])

    with av.open(str(make_clip(tmp_path / "selfie.mov", 1, prepare=mirror))) as container:
        image = BgrConverter()(next(container.decode(video=0)))
    assert image[24, -24].min() > 200
    assert image[24, 10].max() < 50


def test_a_decoded_frame_is_freed_at_once(tmp_path, make_clip):
    with av.open(str(make_clip(tmp_path / "clip.mp4", 1))) as container:
        decoded = next(container.decode(video=0))
        BgrConverter()(decoded)
        shown_pixel_aspect(Turn.of(decoded), container.streams.video[0])
    assert not any(isinstance(one, Mapping) for one in gc.get_referrers(decoded))
