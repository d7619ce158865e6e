"""What a model is sure of becomes a label, the rest a crowd region."""

import cv2
import numpy as np

from pumpseg.instances import Instances
from pumpseg_train.autolabel.pseudo_labels import fills_hull, pseudo_label


def model(boxes, scores):
    """Finds solid boxes, whatever it is shown."""

    def predict(frame):
        return Instances.in_frame(
            np.array(boxes, np.float32),
            np.array(scores, np.float32),
            np.zeros(len(boxes), np.int64),
            np.ones((len(boxes), 28, 28), np.float32),
            frame.shape[:2],
            ("pumpkin",),
        )

    return predict


def test_a_disc_fills_its_hull_and_a_ring_does_not():
    disc = np.zeros((60, 60), np.uint8)
    cv2.circle(disc, (30, 30), 20, 1, -1)
    ring = disc.copy()
    cv2.circle(ring, (30, 30), 12, 0, -1)
    assert fills_hull(disc, 0.95)
    assert fills_hull(ring, 0.5)
    assert not fills_hull(ring, 0.9)
    assert not fills_hull(np.zeros((5, 5), np.uint8), 0.0)


def test_what_the_model_is_sure_of_is_an_instance_and_the_rest_a_crowd(grey_photo):
    seen = []
    predict = model([[10, 20, 40, 60], [50, 10, 90, 30]], [0.9, 0.3])
    found = pseudo_label([grey_photo], predict, threshold=0.5, max_detections=5, progress=lambda: seen.append(1))
    (labelled,) = found.photos
    assert found.classes == ("pumpkin",)
    instance, rest = labelled.annotations
    mask = instance.mask(100, 80)
    assert (instance.class_id, instance.crowd) == (1, False)
    assert mask[20:60, 10:40].all()
    assert mask.sum() == 30 * 40
    assert rest.crowd
    assert rest.mask(100, 80).all()
    assert seen == [1]


def test_photos_without_anything_sure_or_with_too_much_are_left_out(grey_photo):
    assert pseudo_label([grey_photo], model([[10, 20, 40, 60]], [0.4]), threshold=0.5, max_detections=5).photos == ()
    pile = model([[x, 10, x + 8, 20] for x in range(0, 90, 10)], [0.9] * 9)
    assert pseudo_label([grey_photo], pile, threshold=0.5, max_detections=8).photos == ()
    assert len(pseudo_label([grey_photo], pile, threshold=0.5, max_detections=9).photos) == 1
