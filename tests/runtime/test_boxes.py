import numpy as np
import pytest

from pumpseg.boxes import box_iou


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_known_boxes(dtype):
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 9]], dtype)
    ious = box_iou(boxes, boxes)
    assert ious.dtype == dtype
    np.testing.assert_allclose(ious, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]], rtol=1e-6)
    assert box_iou(boxes, boxes[:0]).shape == (3, 0)
