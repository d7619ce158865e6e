import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg import Line, OptionError, Zone
from pumpseg.zones.shapes import check_names, in_fractions, on_frame, polygon_mask, zone_mask

SIZE = (40, 60)
SQUARE = [(10, 5), (30, 5), (30, 25), (10, 25)]


def brute_force(corners, size):
    """Even-odd rule for each pixel's centre, one after another."""
    inside = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
                if (y1 <= y) != (y2 <= y) and x >= x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    odd = not odd
            inside[row, column] = odd
    return inside


def whole(crop, size):
    full = np.zeros(size, bool)
    height, width = crop.mask.shape
    full[crop.y : crop.y + height, crop.x : crop.x + width] = crop.mask
    return full


def test_a_rectangle_holds_exactly_its_pixels():
    mask = whole(zone_mask(Zone("a", SQUARE), SIZE), SIZE)
    wanted = np.zeros(SIZE, bool)
    wanted[5:25, 10:30] = True
    np.testing.assert_array_equal(mask, wanted)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 65), st.floats(-5, 45)), min_size=3, max_size=7))
def test_a_polygon_holds_the_pixels_whose_centres_it_holds(corners):
    mask = whole(polygon_mask(np.array(corners), SIZE), SIZE)
    np.testing.assert_array_equal(mask, brute_force(corners, SIZE))


def test_zones_side_by_side_share_no_pixel_and_miss_none():
    corner = (17.3, 21.8)
    left, right = ([corner, (side, 0), (side, 40)] if side else [(0, 0), corner, (0, 40)] for side in (0, 60))
    top, bottom = [(0, 0), (60, 0), corner], [(0, 40), (60, 40), corner]
    parts = [whole(polygon_mask(np.array(corners, float), SIZE), SIZE) for corners in (left, right, top, bottom)]
    np.testing.assert_array_equal(np.sum(parts, axis=0), 1)


def test_fractions_follow_the_frame():
    zone = Zone("a", [0.25, 0, 0.75, 0, 0.75, 1, 0.25, 1])
    assert in_fractions(zone)
    for size in ((40, 60), (80, 100)):
        assert zone_mask(zone, size).area == size[0] * size[1] / 2


def test_pixels_are_scaled_from_the_frame_that_they_were_drawn_on():
    zone = Zone("a", SQUARE)
    assert not in_fractions(zone)
    np.testing.assert_array_equal(on_frame(zone, (80, 120), first_size=SIZE), 2.0 * np.array(SQUARE))
    sized = Zone("a", SQUARE, size=(60, 40))
    np.testing.assert_array_equal(on_frame(sized, (20, 30)), np.array(SQUARE) / 2)


def test_corners_may_be_pairs_or_in_a_row():
    flat = [number for corner in SQUARE for number in corner]
    assert Zone("a", flat) == Zone("a", SQUARE) == Zone("a", np.array(SQUARE))
    assert hash(Zone("a", flat)) == hash(Zone("a", SQUARE))


def test_zones_and_lines_are_parsed():
    assert Zone.parse("gate=10,5,30,5,30,25,10,25") == Zone("gate", [*SQUARE])
    assert Zone.parse(" gate:pumpkin, big gourd = 0,0, 1,0, 1,1").classes == ("pumpkin", "big gourd")
    assert Line.parse("road=0.1,0.2,0.3,0.4") == Line("road", ((0.1, 0.2), (0.3, 0.4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Zone.parse("gate"),
            "a zone must be NAME=x,y,x,y,x,y,... in pixels or fractions of",
        ),
        (lambda: Zone.parse("=1,2"), "must be NAME=x,y"),
        (lambda: Zone.parse("a:=0,0,1,0,1,1"), "must be NAME:CLASS,CLASS=x,y"),
        (lambda: Zone.parse("a=0,0,1,b,1,1"), "zone a: 'b' is not a number"),
        (lambda: Zone.parse("a=0,0,1,0,1"), "zone a: must be pairs of x and y, got 5 numbers"),
        (lambda: Zone.parse("a=0,0,1,0"), "zone a: a zone needs at least 3 corners, got 2"),
        (lambda: Zone.parse("a b=0,0,1,0,1,1"), 'the name of a zone must be one word of letters, digits, "_" and "-"'),
        (lambda: Zone.parse("a=0,0,1,0,1,nan"), "zone a: must be fractions from 0 to 1, or pixels, got nan"),
        (lambda: Zone.parse("a=0,0,-10,0,20,20"), "zone a: must be fractions from 0 to 1, or pixels, got -10"),
        (lambda: Zone.parse("a=0,0,1.05,0,1.05,1,0,1"), "spans less than 2 pixels; for fractions of the frame, all"),
        (lambda: Zone.parse("a=0,0,20,20,20,0,0,20"), "zone a: its outline crosses itself"),
        (lambda: Zone.parse("a=0,0,10,10,20,20"), "zone a: its corners are on one line"),
        (lambda: Zone.parse("a=5,5,5,5,5,5"), "zone a: its points are all in one place"),
        (lambda: Zone("a", SQUARE, share=1.5), "zone a: share must be from 0 to 1, got 1.5"),
        (lambda: Zone("a", SQUARE, share=0), "zone a: share must be above 0"),
        (lambda: Zone("a", SQUARE, classes="pumpkin"), "zone a: classes must be a list of class names"),
        (lambda: Zone("a", SQUARE, size=(0, 40)), "zone a: size must be a width and a height"),
        (lambda: Zone("a", [["x", 1]]), "zone a: must be numbers"),
        (lambda: Zone("a", None), "zone a: must be"),
        (lambda: Line("a", [0, 0, 1, 1, 1, 0]), "line a: a line has 2 ends, got 3 points"),
        (lambda: Line("a", [0.5, 0.5, 0.5, 0.5]), "line a: its points are all in one place"),
        (lambda: Line.parse("a=1;2"), "line a: '1;2' is not a number; x,y,x,y is needed"),
        (
            lambda: zone_mask(Zone("a", [(0, 0), (90, 0), (90, 9)]), SIZE),
            "zone a reaches to x=90, y=9, but the frame is 60x40",
        ),
        (
            lambda: zone_mask(Zone("a", [0, 0, 0.001, 0, 0.001, 0.001]), SIZE),
            "zone a holds no pixel of a frame of 60x40",
        ),
        (lambda: check_names([Zone("a", SQUARE), Line("a", [0, 0, 1, 1])]), "two zones or lines named a"),
    ],
)
def test_what_is_wrong_with_a_shape_is_one_line(make, message):
    with pytest.raises(OptionError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
