"""A model file small enough to build in a test: it finds the bright things in a picture, cell by cell."""

import json
import threading
import time
from fractions import Fraction

import av
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pumpseg.errors import SourceError
from pumpseg.video.sources.camera import Camera

SIDE, CELL, MASK = 64, 16, 4

METADATA = {
    "format": 1,
    "profile": "edge",
    "classes": ["pumpkin"],
    "input_size": [SIDE, SIDE],
    "letterbox": {"placement": "top-left", "fill": [127, 127, 127]},
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
    "max_detections": 100,
    "training": {"images": 0},
    "metrics": {},
    "licence": "Apache-2.0",
    "source_hash": "0",
}


def bright_cells_model(metadata=METADATA, *, threshold=0.7, static=False):
    """A contract-conforming model whose instances are the 16x16 input cells with much red in the mean.

    Its score is that mean, its mask the 4x4 block means that reach 0.5; it finds nothing on black frames. static: it
    always gives all 16 rows, those that are not used last with score 0, and its threshold is a setting.
    """
    cells = SIDE // CELL
    rows = cells * cells if static else "N"
    corners = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2) * CELL
    constants = {
        "all_boxes": np.concatenate([corners, corners + CELL], 1).astype(np.float32),
        "scale": np.float32(255),
        "red": np.array([0], np.int64),
        "blocks": np.array([cells, MASK, CELL // MASK, cells, MASK, CELL // MASK], np.int64),
        "cells": np.array([cells * cells, MASK, MASK], np.int64),
        "score_threshold": np.array([threshold], np.float32),
        "nothing": np.float32(0),
        "all_cells": np.array([cells * cells], np.int64),
        "squeezed_axis": np.array([0], np.int64),
        "zero": np.int64(0),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["unit"]),
        helper.make_node("Gather", ["unit", "red"], ["plane"], axis=3),
        helper.make_node("Reshape", ["plane", "blocks"], ["blocked"]),
        helper.make_node("ReduceMean", ["blocked"], ["means"], axes=[2, 5], keepdims=0),
        helper.make_node("Transpose", ["means"], ["by_cell"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["by_cell", "cells"], ["all_masks"]),
        helper.make_node("ReduceMean", ["all_masks"], ["all_scores"], axes=[1, 2], keepdims=0),
        helper.make_node("Greater", ["all_scores", "score_threshold"], ["bright"]),
        *(
            [
                helper.make_node("Where", ["bright", "all_scores", "nothing"], ["used_scores"]),
                helper.make_node("TopK", ["used_scores", "all_cells"], ["scores", "kept"]),
            ]
            if static
            else [
                helper.make_node("NonZero", ["bright"], ["rows"]),
                helper.make_node("Squeeze", ["rows", "squeezed_axis"], ["kept"]),
                helper.make_node("Gather", ["all_scores", "kept"], ["scores"], axis=0),
            ]
        ),
        helper.make_node("Gather", ["all_boxes", "kept"], ["boxes"], axis=0),
        helper.make_node("Gather", ["all_masks", "kept"], ["masks"], axis=0),
        helper.make_node("Mul", ["kept", "zero"], ["class_ids"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright_cells",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3]),
            *([helper.make_tensor_value_info("score_threshold", TensorProto.FLOAT, [1])] if static else []),
        ],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [rows, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows]),
            helper.make_tensor_value_info("class_ids", TensorProto.INT64, [rows]),
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, [rows, MASK, MASK]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"pumpseg": metadata if isinstance(metadata, str) else json.dumps(metadata)})
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """Finds the bright cells of a frame."""
    path = tmp_path_factory.mktemp("model") / "bright.onnx"
    onnx.save(bright_cells_model(), path)
    return path


@pytest.fixture(scope="session")
def static_model_path(tmp_path_factory):
    """Finds the bright cells of a frame, in outputs of fixed shapes."""
    path = tmp_path_factory.mktemp("model") / "static.onnx"
    onnx.save(bright_cells_model(static=True), path)
    return path


@pytest.fixture(scope="session")
def blind_model_path(tmp_path_factory):
    """Finds nothing, whatever it sees."""
    path = tmp_path_factory.mktemp("model") / "blind.onnx"
    onnx.save(bright_cells_model(threshold=2.0), path)
    return path


@pytest.fixture
def make_model(tmp_path):
    """Writes a model file; without arguments the usual one, with a metadata value (None: none) another."""

    def make(metadata=METADATA, name="model.onnx", **options):
        path = tmp_path / name
        onnx.save(bright_cells_model(metadata, **options), path)
        return path

    return make


@pytest.fixture(scope="session")
def metadata():
    """Metadata that a model file may carry."""
    return METADATA


def moving_square(index, size=(64, 96)):
    """A black frame, uint8 BGR, with a white 48x48 square that moves right; it always covers whole cells."""
    frame = np.zeros((*size, 3), np.uint8)
    left = (3 * index) % (size[1] - 48)
    frame[:48, left : left + 48] = 255
    return frame


@pytest.fixture(scope="session")
def square_frame():
    return moving_square(0)


@pytest.fixture(scope="session")
def make_clip():
    """Encodes a clip of the moving square.

    pts: of every frame, in 1/1000 s; by default `frames` at 25 a second. audio: codec of a tone to add, or several.
    prepare: called with the video stream before the first frame.
    """

    def make(
        path,
        frames=20,
        size=(64, 96),
        pts=None,
        audio=(),
        channels="mono",
        faststart=False,
        rotation=None,
        *,
        codec="libx264",
        container_format=None,
        pix_fmt="yuv420p",
        encoding=None,
        prepare=None,
    ):
        pts = [40 * i for i in range(frames)] if pts is None else pts
        options = {"movflags": "+faststart"} if faststart else {}
        if encoding is None:
            encoding = {"preset": "ultrafast", "g": "10"} if codec == "libx264" else {}
        with av.open(str(path), "w", format=container_format, options=options) as container:
            video = container.add_stream(codec, rate=25, options=encoding)
            video.height, video.width, video.pix_fmt = *size, pix_fmt
            if codec == "libx264":
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation is not None:
                video.set_display_rotation(rotation)
            if prepare is not None:
                prepare(video)
            audio = (audio,) if isinstance(audio, str) else audio or ()
            tones = [container.add_stream(name, rate=16000, layout=channels) for name in audio]
            for i, moment in enumerate(pts):
                frame = av.VideoFrame.from_ndarray(moving_square(i, size), format="bgr24")
                frame.pts, frame.time_base = moment, Fraction(1, 1000)
                container.mux(video.encode(frame))
            container.mux(video.encode())
            for sound in tones:
                # As long as the pictures.
                total = 16 * (pts[-1] + 40)
                step = sound.codec_context.frame_size or 1024
                for start in range(0, total, step):
                    tone = np.sin(np.arange(start, start + step) / 6)[None].astype(np.float32) / 4
                    block = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                    block.sample_rate, block.pts, block.time_base = 16000, start, Fraction(1, 16000)
                    container.mux(sound.encode(block))
                container.mux(sound.encode())
        return path

    return make


@pytest.fixture(scope="session")
def clip(tmp_path_factory, make_clip):
    """Twenty frames at 25 a second, 96x64, without sound."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


class NumberedCapture:
    """A camera whose pictures carry their number in every pixel; stops after `count` of them, hangs after `hang`."""

    skipped, negotiated, pixel_aspect = 0, "numbered", Fraction(1)

    def __init__(self, fps=100.0, count=None, hang=None, size=(48, 64)):
        self.rate = Fraction(fps)
        self.made, self._count, self._hang, self._size = 0, count, hang, size
        self._closed = threading.Event()

    def read(self):
        if self._closed.wait(None if self.made == self._hang else 1 / float(self.rate)) or self.made == self._count:
            raise SourceError("it stopped delivering frames")
        self.made += 1
        return np.full((*self._size, 3), self.made % 256, np.uint8), time.perf_counter()

    def close(self):
        self._closed.set()


@pytest.fixture
def numbered_camera():
    """Opens cameras that are closed at the end."""
    opened = []

    def make(name="numbered", **options):
        capture = NumberedCapture(**options)
        opened.append(Camera(name, lambda: capture, reconnect_timeout=0))
        return opened[-1], capture

    yield make
    for camera in opened:
        camera.close()
