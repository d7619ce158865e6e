"""Encoded streams whose pictures carry their number, and how a test reads it back."""

import dataclasses
from fractions import Fraction

import av
import numpy as np

from pumpseg.video.sources.packet_ring import StreamFormat

SIZE = (64, 128)  # h, w
FPS = 25
_BITS = 8


def counted_picture(number):
    """uint8 BGR: black and white blocks, the number's bits."""
    bits = (number >> np.arange(_BITS) & 1).astype(np.uint8) * 255
    return np.repeat(np.kron(bits, np.ones((SIZE[0], SIZE[1] // _BITS), np.uint8))[..., None], 3, 2)


def number_of(picture):
    """The number that a picture carries, uint8 (H, W, 3)."""
    blocks = picture[8:-8, :, 1].reshape(picture.shape[0] - 16, _BITS, -1)
    return int(((blocks.mean(axis=(0, 2)) > 127).astype(int) << np.arange(_BITS)).sum())


def numbers_in(path):
    """(seconds, number) of each picture of a video."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [(float(f.pts * f.time_base), number_of(f.to_ndarray(format="bgr24"))) for f in frames]


def encode(count, codec="libx264", gop=10, first=0, global_header=False, b_frames=0):
    """StreamFormat and (data, pts, dts, is_keyframe) of `count` pictures, from number `first` on, FPS a second."""
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = SIZE
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base, context.framerate = Fraction(1, 90_000), Fraction(FPS)
    context.thread_count = 1
    if codec != "mjpeg":
        context.options = {"preset": "ultrafast", "g": str(gop), "bf": str(b_frames), "sc_threshold": "0"}
        if codec == "libx265":
            context.options = {"preset": "ultrafast", "x265-params": f"keyint={gop}:bframes=0:log-level=none"}
        elif b_frames:
            context.options |= {"x264-params": "b-adapt=0"}
    if global_header:
        context.flags |= int(av.codec.context.Flags.global_header)
    encoded = []
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(counted_picture(first + i), format="bgr24").reformat(format=context.pix_fmt)
        frame.pts, frame.time_base = i * 90_000 // FPS, Fraction(1, 90_000)
        encoded += context.encode(frame)
    encoded += context.encode(None)
    name = {"libx264": "h264", "libx265": "hevc"}.get(codec, codec)
    stream_format = StreamFormat(
        name, (SIZE[1], SIZE[0]), Fraction(FPS), Fraction(1, 90_000), bytes(context.extradata or b"")
    )
    return stream_format, [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in encoded]


def fill(ring, stream, newest, keep=None):
    """Add a stream's packets to a ring as if they had arrived at FPS a second, the last at `newest`."""
    stream_format, packets = stream
    ring.begin(dataclasses.replace(stream_format))  # each connection has its own
    for i, (data, pts, dts, is_keyframe) in enumerate(packets):
        if keep is None or keep(i):
            ring.add(data, pts, dts, is_keyframe=is_keyframe, arrived=newest - (len(packets) - 1 - i) / FPS)
