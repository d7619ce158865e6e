"""The segmenter: a frame in, its instances out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pumpseg.checks import check_count, check_frame, check_share
from pumpseg.errors import ModelFileError
from pumpseg.inference.letterbox import letterbox
from pumpseg.inference.model_file import check_tensors, choose_model, model_inputs, parse_metadata
from pumpseg.inference.providers import PROVIDERS, open_session
from pumpseg.inference.tiles import MAX_TILES, merge, tile_grid
from pumpseg.instances import Instances
from pumpseg.timings import Timings

if TYPE_CHECKING:
    from pumpseg.video.sources.frame_source import Source

log = logging.getLogger("pumpseg")

DEFAULT_THRESHOLD = 0.5
_OUTPUTS = ["boxes", "scores", "class_ids", "masks"]


class Segmenter:
    """Finds instances in frames with one model on one execution provider.

    model: None for the shipped default, the name of a shipped model, or the path of an ONNX file. Of a shipped model
        the int8 file is taken on a CPU that is fast at it, else the float32 file: "fast-int8" and "fast-fp32"
        force one, and `info.precision` and `info.choice` tell which one it was and why.
    provider: "auto", "cpu", "cuda", "tensorrt", "openvino", "coreml" or "directml"; a named one is binding.
    threads: of one inference; the physical cores available to this process by default.
    threshold: instances with a lower score are left out; candidates below it cost nothing. The model file's own
        threshold is a lower bound.
    tiles: from 2 on, also look at tiles x tiles overlapping tiles of every frame, each as large to the model as the
        whole frame: for large pictures of many small things. It takes tiles * tiles + 1 times as long.
    allow_spinning: whether idle threads keep polling for work: False for busy machines and pipelines, True for the
        shortest single inference; None polls during an inference only.

    Attributes: `info` (ModelInfo), `path` (of the model file), `provider` (the one that really loaded), `threshold`,
    `tiles`.

    Several threads may share a segmenter: each one letterboxes into a buffer of its own.

    Raises ModelFileError, ProviderError, and OptionError for a threshold outside 0..1, or fewer or far more threads or
    tiles than there can be.

        segmenter = Segmenter()
        instances = segmenter(cv2.imread("patch.jpg"))
        print(instances.boxes, instances.scores, instances.masks.shape)
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        provider: str = "auto",
        threads: int | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        tiles: int = 1,
        allow_spinning: bool | None = None,
    ) -> None:
        check_share("threshold", threshold)
        check_count("tiles", tiles, MAX_TILES)
        self._session, self.provider = open_session(model, provider, threads=threads, allow_spinning=allow_spinning)
        path, choice = choose_model(model, self.provider)
        self.info = replace(parse_metadata(self._session.get_modelmeta().custom_metadata_map, path), choice=choice)
        if self.info.precision != "float32" and choice:
            log.info("model %s, %s", path.stem, choice)
        check_tensors(self._session.get_inputs(), self._session.get_outputs(), self.info, path)
        self._settings = self._session.get_overridable_initializers()
        self.threshold = threshold
        self.tiles = tiles
        self.path = path
        self._per_thread = threading.local()

    def __call__(self, frame: NDArray[np.uint8]) -> Instances:
        """Instances of one frame, uint8 BGR (H, W, 3). Raises ValueError for any other array."""
        return self.timed(frame)[0]

    def timed(self, frame: NDArray[np.uint8]) -> tuple[Instances, Timings]:
        """Instances of one frame, uint8 BGR (H, W, 3), and the seconds every step took."""
        check_frame(frame)
        if self.tiles == 1:
            return self._find(frame)
        found, timings = [], Timings(0.0, 0.0, 0.0)
        for tile in tile_grid(frame.shape[:2], self.tiles):
            instances, taken = self._find(tile.of(frame))
            found.append((tile, instances))
            timings = timings + taken
        start = perf_counter()
        merged = merge(found, frame.shape[:2])
        return merged, replace(timings, post=timings.post + perf_counter() - start)

    def _find(self, frame: NDArray[np.uint8]) -> tuple[Instances, Timings]:
        start = perf_counter()
        info = self.info
        image, placement = letterbox(
            frame, info.input_size, info.fill, self._buffer(), swap_red_blue=True, rule=info.letterbox
        )
        ready = perf_counter()
        tensors = model_inputs(
            image[None], self.threshold, info, self._settings, PROVIDERS[self.provider].rois_multiple
        )
        boxes, scores, class_ids, masks = self._session.run(_OUTPUTS, tensors)
        ran = perf_counter()
        kept = scores >= self.threshold
        class_ids = class_ids[kept]
        if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(self.info.class_names):
            raise ModelFileError(
                f"{self.path} gives class {class_ids.max()} but names {len(self.info.class_names)} classes"
            )
        instances = Instances.in_frame(
            placement.to_frame(boxes[kept]),
            scores[kept],
            class_ids,
            masks[kept],
            placement.frame_size,
            self.info.class_names,
            self.info.mask_border,
        )
        return instances, Timings(ready - start, ran - ready, perf_counter() - ran)

    def stream(
        self, source: str | Path | Source, *, workers: int = 1, track: bool = False
    ) -> Iterator[tuple[NDArray[np.uint8], Instances]]:
        """Frames, uint8 BGR (H, W, 3), of a source and their instances, worked out ahead in threads.

        source: anything that `pumpseg-video` takes (see `pumpseg.video.open_source`). A file gives every frame
        in order, a camera its newest one each time. workers: frames of a file that are inferred at the same
        time; on a CPU, Segmenter(threads=1) with a worker for each core gets through the most frames.
        track: give instances ids that stay with them, see `pumpseg.video.Tracker`.
        Raises SourceError for a source that cannot be read to its end, or still images to track through.
        """
        from pumpseg import video

        opened = video.open_source(source) if isinstance(source, (str, Path)) else source
        tracker = video.tracker_of(opened) if track else None
        results = video.stream(opened, self, workers=workers, tracker=tracker)
        return ((result.frame.image, result.instances) for result in results)

    def _buffer(self) -> NDArray[np.uint8]:
        if not hasattr(self._per_thread, "image"):
            self._per_thread.image = np.empty((*self.info.input_size, 3), np.uint8)
        image: NDArray[np.uint8] = self._per_thread.image
        return image
