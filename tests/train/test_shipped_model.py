"""The shipped model on rendered scenes, whose masks are known exactly."""

import numpy as np

from pumpseg import Segmenter
from pumpseg_train.synth.scene import render_scene


def test_masks_fit_pumpkins_that_it_has_never_seen():
    segmenter = Segmenter(provider="cpu", threads=1)
    overlaps = []
    for seed in range(6):
        scene = render_scene(np.random.default_rng([99, seed]), (640, 480))
        found = segmenter(np.ascontiguousarray(scene.image)).masks
        for mask in scene.masks:
            if mask.sum() > 3000:
                unions = (found | mask).sum(axis=(1, 2))
                overlaps.append(max((found & mask).sum(axis=(1, 2)) / unions, default=0.0))
    assert len(overlaps) >= 8
    assert np.mean(np.array(overlaps) > 0.7) >= 0.75, overlaps
