"""Pictures that carry the moment they were made: what the test cameras send, and how a test reads it back.

The scripts in this folder run as programs of their own, so this module imports nothing of the tests.
"""

import time

import numpy as np

SIZE = (240, 320)  # h, w
_BLOCK, _BITS = 8, 40


def stamped_picture(now=None):
    """uint8 BGR: a white square that jumps about below a strip of 40 black and white blocks, the time in ms."""
    moment = time.time() if now is None else now
    picture = np.zeros((*SIZE, 3), np.uint8)
    left = 80 * (int(moment) % 3)
    picture[80:, left : left + 160] = 255
    bits = int(moment * 1000) >> np.arange(_BITS) & 1
    strip = np.kron(bits, np.ones((2 * _BLOCK, _BLOCK), np.uint8)) * 255
    picture[: 2 * _BLOCK, : _BITS * _BLOCK] = strip[..., None]
    return picture


def made_at(picture):
    """Seconds since the epoch at which a received picture was made, to the millisecond."""
    strip = picture[: 2 * _BLOCK, : _BITS * _BLOCK, 1].reshape(2 * _BLOCK, _BITS, _BLOCK)
    bits = strip[4:-4, :, 2:-2].mean(axis=(0, 2)) > 127
    low = int((bits.astype(np.int64) << np.arange(_BITS)).sum())
    now = int(time.time() * 1000)
    return ((now >> _BITS << _BITS) + low) / 1000
