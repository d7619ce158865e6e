"""`mrcnn.visualize`: what is drawn, without a window."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Polygon, Rectangle

from pumpseg_train.matterport import visualize

IMAGE = np.full((40, 60, 3), 100, np.uint8)
BOXES = np.array([[5, 5, 20, 25], [10, 30, 35, 55]])
MASKS = np.zeros((40, 60, 2), bool)
MASKS[5:20, 5:25, 0] = MASKS[10:35, 30:55, 1] = True


@pytest.fixture(autouse=True)
def closed():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def test_colours_are_distinct_and_as_many_as_wanted():
    colours = visualize.random_colors(5)
    assert len(set(colours)) == 5
    assert all(0 <= value <= 1 for colour in colours for value in colour)
    assert max(visualize.random_colors(1, bright=False)[0]) == 0.7


def test_a_mask_is_blended_in():
    image = visualize.apply_mask(IMAGE.astype(np.float64), MASKS[..., 0], (1.0, 0.0, 0.0))
    assert image[10, 10].tolist() == [177.5, 50, 50]
    assert image[0, 0].tolist() == [100, 100, 100]


def test_instances_have_boxes_outlines_and_captions():
    ax = plt.subplots(1)[1]
    names = ["BG", "apple", "pumpkin"]
    visualize.display_instances(IMAGE, BOXES, MASKS, np.array([1, 2]), names, np.array([0.9, 0.8]), title="T", ax=ax)
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 2
    assert sum(isinstance(patch, Polygon) for patch in ax.patches) == 2
    assert [text.get_text() for text in ax.texts] == ["apple 0.900", "pumpkin 0.800"]
    assert ax.get_title() == "T"
    shown = ax.images[0].get_array()
    assert (shown[0, 0] == 100).all()
    assert (shown[10, 10] != 100).any()


def test_parts_of_it_can_be_left_out(capsys):
    ax = plt.subplots(1)[1]
    options = {"show_mask": False, "show_bbox": False, "captions": ["one", None]}
    visualize.display_instances(IMAGE, BOXES, MASKS, np.array([1, 1]), ["BG", "apple"], ax=ax, **options)
    assert not any(isinstance(patch, Rectangle) for patch in ax.patches)
    assert [text.get_text() for text in ax.texts] == ["one", ""]
    assert (ax.images[0].get_array() == 100).all()
    visualize.display_instances(IMAGE, BOXES[:0], MASKS[..., :0], np.array([], int), ["BG"], ax=ax)
    assert "no instances" in capsys.readouterr().out


def test_images_are_shown_in_a_grid():
    visualize.display_images([IMAGE] * 3, ["a", "b", "c"], cols=2)
    assert [axes.get_title() for axes in plt.gcf().axes] == ["a", "b", "c"]


def test_the_largest_classes_have_masks_of_their_own():
    visualize.display_top_masks(IMAGE, MASKS, np.array([1, 2]), ["BG", "apple", "pumpkin"], limit=3)
    assert [axes.get_title() for axes in plt.gcf().axes] == ["H x W=40x60", "pumpkin", "apple", "-"]


def test_boxes_and_their_refinement():
    ax = plt.subplots(1)[1]
    visualize.draw_boxes(IMAGE, BOXES, BOXES + 1, MASKS, captions=["a", "b"], visibilities=[0, 2], title="T", ax=ax)
    assert len(ax.patches) == 4
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    visualize.draw_boxes(IMAGE, refined_boxes=BOXES, ax=plt.subplots(1)[1])
    assert len(plt.gca().patches) == 2


def test_the_curve_of_precision_and_recall():
    visualize.plot_precision_recall(0.5, np.array([1, 1, 0.5, 0]), np.array([0, 0.5, 0.5, 1]))
    assert "0.500" in plt.gca().get_title()
