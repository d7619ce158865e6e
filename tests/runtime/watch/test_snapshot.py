import cv2
import numpy as np
import pytest

from pumpseg import Instances
from pumpseg.errors import OptionError
from pumpseg.video.result import Result, Style
from pumpseg.watch.snapshot import Blur, take_snapshot

SIZE = (120, 160)


@pytest.fixture
def frame():
    """A chequered pattern of single pixels, of which no detail is left where it is blurred."""
    rows, columns = np.indices(SIZE)
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture
def instances():
    """A pumpkin of 40x40 and a gourd of 30x30 that reaches out of the frame."""
    boxes = np.array([[20, 20, 60, 60], [140, 100, 170, 130]], np.float32)
    cells = np.ones((2, 28, 28), np.float32)
    cells[0, :14, :14] = 0
    scores = np.array([0.9, 0.8], np.float32)
    return Instances.in_frame(boxes, scores, np.array([0, 1]), cells, SIZE, ["pumpkin", "gourd"])


def detail(image):
    """Whether each pixel still differs from its neighbours."""
    return np.abs(np.diff(image[..., 0].astype(int), axis=1, append=image[:, -2:-1, 0].astype(int))) > 128


def test_instances_are_blurred_by_their_masks_and_nothing_else_is(frame, instances):
    blurred = Blur().apply(frame, instances)
    assert not detail(blurred)[instances.masks.any(0)].any()
    changed = (blurred != frame).any(-1)
    near = cv2.dilate(instances.masks.any(0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert not changed[~near].any()
    assert not changed[24:34, 24:34].any(), "in the box, but not in the mask"
    assert changed.any() and detail(frame).all(), "the frame itself is left alone"


def test_only_chosen_classes_are_blurred(frame, instances):
    blurred = Blur(classes=("gourd",)).apply(frame, instances)
    assert (blurred[:90] == frame[:90]).all()
    assert not detail(blurred)[instances.masks[1]].any()


def test_background_is_blurred_around_the_chosen_instances(frame, instances):
    blurred = Blur("background", ("pumpkin",)).apply(frame, instances)
    kept = instances.masks[0]
    assert (blurred[kept] == frame[kept]).all()
    assert not detail(blurred)[~cv2.dilate(kept.astype(np.uint8), np.ones((3, 3))).astype(bool)].any()


def test_all_of_the_frame_is_blurred(frame, instances):
    assert not detail(Blur("all").apply(frame, instances)).any()
    assert Blur("all").apply(frame[:1, :1], instances).shape == (1, 1, 3)


@pytest.mark.parametrize("kind", ["instances", "background", "all"])
def test_a_frame_without_instances(frame, kind):
    blurred = Blur(kind).apply(frame, Instances.empty(SIZE))
    assert (blurred == frame).all() == (kind == "instances")


def test_a_face_of_many_pixels_is_left_with_few(frame):
    picture = np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)
    few = cv2.resize(Blur("all").apply(picture, Instances.empty((400, 400))), (6, 6), interpolation=cv2.INTER_AREA)
    assert few.std() < 12


def test_an_unknown_kind_is_refused():
    with pytest.raises(OptionError, match="unknown blur 'faces'; there are instances, background, all"):
        Blur("faces")


def test_snapshot_is_a_jpeg_of_the_annotated_frame(frame, instances):
    result = Result(frame, instances, "yard", 0, 0.0, style=Style(labels=False))
    jpegs = [take_snapshot(result, blur) for blur in (None, Blur())]
    plain, blurred = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs)
    assert np.abs(plain.astype(int) - result.annotated).mean() < 8
    # The tint is over both; the pattern below it is over the plain one only.
    inside = np.s_[45:55, 28:52]
    assert plain[inside][..., 2].std() > 3 * blurred[inside][..., 2].std()
