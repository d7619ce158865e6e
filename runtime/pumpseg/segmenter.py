"""The segmenter: a frame in, its instances out."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from pumpseg.checks import check_count, check_share
from pumpseg.errors import OptionError
from pumpseg.images import Image, as_frame, check_frame
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import DEFAULT_THRESHOLD
from pumpseg.inference.providers import PROVIDERS
from pumpseg.inference.threads import plan_threads, plan_turns, usable_cores
from pumpseg.inference.tiles import MAX_TILES, merge, tile_grid
from pumpseg.instances import Instances
from pumpseg.plural import counted
from pumpseg.timings import Timings
from pumpseg.zones.counter import ZoneCounter

if TYPE_CHECKING:
    from pumpseg.video.result import Result
    from pumpseg.video.sources.frame_source import Frame, Source

log = logging.getLogger("pumpseg")

MAX_SOURCES = 64
"""Of one stream: each has threads, and frames in memory."""


class Segmenter:
    """Finds instances in frames with one model on one execution provider.

    model: None for the shipped default, the name of a shipped model, or the path of an ONNX file. Of a shipped model
        the int8 file is taken on a CPU that is fast at it, else the float32 file: "fast-int8" and "fast-fp32"
        force one, and `info.precision` and `info.choice` say which one it was and why.
    provider: "auto", "cpu", "cuda", "tensorrt", "openvino", "coreml" or "directml"; a named one is binding.
    threads: of one inference; the physical cores available to this process by default.
    threshold: instances with a lower score are left out; candidates below it cost nothing. None takes the one that the
        model file recommends. The file's `score_threshold` is a lower bound.
    tiles: from 2 on, also run the model on tiles x tiles overlapping tiles of every frame and merge duplicate
        detections: small objects appear larger. It takes tiles * tiles + 1 times as long.
    allow_spinning: whether idle threads keep polling for work: False for busy machines and pipelines, True for the
        shortest single inference; None polls during an inference only.

    Attributes: `class_names`, `info` (ModelInfo), `path` (of the model file), `provider` (the one that loaded),
    `threshold` (the one in use), `tiles`.

    Several threads may share a segmenter. `close`, or leaving a `with` block, releases its model.

    Raises ModelFileError, ProviderError, and OptionError for a threshold outside 0..1, or a number of threads or tiles
    that is out of range.

    >>> from pumpseg import Segmenter, open_source
    >>> frame = next(iter(open_source("demo"))).image
    >>> with Segmenter() as segmenter:
    ...     instances = segmenter(frame)
    >>> instances.labels[0], instances.boxes.shape == (len(instances), 4), instances.masks.shape[1:]
    ('pumpkin', True, (480, 640))
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        provider: str = "auto",
        threads: int | None = None,
        threshold: float | None = None,
        tiles: int = 1,
        allow_spinning: bool | None = None,
    ) -> None:
        if threshold is not None:
            check_share("threshold", threshold)
        check_count("tiles", tiles, MAX_TILES)
        self.model = Model.open(model, provider, threads=threads, allow_spinning=allow_spinning)
        self.info, self.path, self.provider = self.model.info, self.model.path, self.model.provider
        self.class_names = self.info.class_names
        self.threshold = self.info.recommended_threshold if threshold is None else threshold
        if threshold is None and self.threshold != DEFAULT_THRESHOLD:
            log.info("threshold %g, which %s recommends", self.threshold, self.path.name)
        self.tiles = tiles
        self._threads = threads
        self._others: dict[int, Segmenter] = {}  # by the threads of their sessions
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        tiles = f", tiles {self.tiles}" if self.tiles > 1 else ""
        return f"Segmenter({self.path.name} on {self.provider}, threshold {self.threshold:g}{tiles}, {self.info!r})"

    @overload
    def predict(self, image: Image) -> Instances: ...  # type: ignore[overload-overlap] # a str is a sequence, too

    @overload
    def predict(self, image: Sequence[Image]) -> list[Instances]: ...

    def predict(self, image: Image | Sequence[Image]) -> Instances | list[Instances]:
        """Instances of an image, or a list of them for a sequence of images.

        image: a BGR array, uint8 (H, W, 3), the path of an image file, or a PIL image.
        Raises ValueError for another array or value, SourceError for a file that cannot be read; ModelFileError if the
        model's outputs make no sense, ProviderError if it fails.
        """
        if isinstance(image, Sequence) and not isinstance(image, str):
            return [self.timed(as_frame(one))[0] for one in image]
        return self.timed(as_frame(image))[0]

    __call__ = predict

    def timed(self, frame: NDArray[Any]) -> tuple[Instances, Timings]:
        """Instances of one frame, uint8 BGR (H, W, 3), and the seconds of every step."""
        check_frame(frame)
        if self.tiles == 1:
            return self._infer(frame)
        found, timings = [], Timings()
        for tile in tile_grid(frame.shape[:2], self.tiles):
            instances, taken = self._infer(tile.of(frame))
            found.append((tile, instances))
            timings = timings + taken
        start = perf_counter()
        merged = merge(found, frame.shape[:2])
        return merged, replace(timings, post=timings.post + perf_counter() - start)

    def _infer(self, frame: NDArray[np.uint8]) -> tuple[Instances, Timings]:
        start = perf_counter()
        image, placement = self.model.prepare(frame)
        ready = perf_counter()
        boxes, scores, class_ids, masks = self.model.run(image, self.threshold)
        ran = perf_counter()
        kept = scores >= self.threshold
        instances = Instances.in_frame(
            placement.to_frame(boxes[kept]),
            scores[kept],
            class_ids[kept],
            masks[kept],
            placement.frame_size,
            self.class_names,
            self.info.mask_border,
        )
        return instances, Timings(ready - start, ran - ready, perf_counter() - ran)

    def infer(self, frame: Frame) -> tuple[Instances, Timings]:
        """`timed` for a frame of a source, as `pumpseg.video.process` and `stream` call it."""
        return self.timed(frame.image)

    def stream(
        self,
        source: str | Path | Source | Sequence[str | Path | Source],
        *,
        track: bool = False,
        zones: ZoneCounter | Sequence[ZoneCounter | None] | None = None,
        workers: int | None = None,
    ) -> Generator[Result, None, None]:
        """Results of a source: its frames with their index, time and instances, decoded and inferred ahead in threads.

        source: anything that `pumpseg-video` takes (see `open_source`), or a list of up to 64 of them. A file yields
        every frame in order, a camera its newest one each time. Several sources take fair turns at the model and in
        what is yielded: results come as they are ready, those of a source in its order, with the source's name as
        `source` and its position in the list as `source_number`.
        track: give instances track ids, see `Tracker`; each source has its own. zones: makes the results' `counts`; of
        several sources a list, with one or None for each.
        workers: frames of a file to infer at the same time in this segmenter's session. By default as many as it has
        threads, shared by all sources, each in one thread, in a second session that is opened when it is first needed.

        A source that ends or fails midway does not end the others. Raises SourceError at once for a source that cannot
        be opened, or for still images with `track`; and when all have ended, if one failed midway. Errors of the model
        end all. Closing the generator, or dropping it, closes the sources and ends all threads. Streams of one
        segmenter may run at the same time.

        >>> from pumpseg import Segmenter
        >>> for result in Segmenter().stream("demo"):
        ...     print(result.index, result.time, len(result.instances) > 0, result.annotated.shape)
        ...     break
        0 0.0 True (480, 640, 3)
        """
        from pumpseg import video  # on demand: it doubles the time that importing pumpseg takes
        from pumpseg.video.sources.in_turn import InTurn
        from pumpseg.video.turns import Turns

        given = list(source) if isinstance(source, (list, tuple)) else [source]
        if zones is None:
            counters: list[ZoneCounter | None] = [None] * len(given)
        else:
            counters = [zones] if isinstance(zones, ZoneCounter) else list(zones)
        if not given:
            raise OptionError("the list of sources is empty")
        if len(given) > MAX_SOURCES:
            raise OptionError(
                f"{len(given)} sources are more than {MAX_SOURCES}; images in a folder or a .txt list are one source"
            )
        if workers is not None:
            check_count("workers", workers)
        if len(counters) != len(given):
            raise OptionError(f"zones must be a list with one or None for each of {counted(len(given), 'source')}")
        with contextlib.ExitStack() as opening:
            opened: list[Source] = []
            for one in given:
                if isinstance(one, (str, Path)):
                    opened.append(opening.enter_context(video.open_source(one)))
                elif isinstance(one, video.Source):
                    opened.append(one)
                else:
                    raise OptionError(f"a source must be a str, a Path or a Source, got {type(one).__name__}")
            trackers = [video.tracker_of(one) if track else None for one in opened]
            segmenter = self
            if workers is None:
                live = all(one.live for one in opened)
                plan = plan_threads(self._threads, live=live, jobs=len(opened))
                workers = plan.workers_on(self.provider)
                if plan.threads < usable_cores(self._threads) and not PROVIDERS[self.provider].device:
                    segmenter = self._with_threads(plan.threads)
            if len(opened) > 1:
                turns = Turns(plan_turns(self._threads, len(opened)).workers_on(self.provider))
                opened = [InTurn(one, turns) if isinstance(one, video.Camera) else one for one in opened]
            opening.pop_all()
        return video.stream_all(opened, segmenter.infer, workers=workers, trackers=trackers, zones=counters)

    def _with_threads(self, threads: int) -> Segmenter:
        """The same on another session, of so many threads, which do not wait for each other; opened once."""
        with self._lock:
            if threads not in self._others:
                self._others[threads] = Segmenter(
                    self.path,
                    provider=self.provider,
                    threads=threads,
                    threshold=self.threshold,
                    allow_spinning=False,
                )
            other = self._others[threads]
            other.threshold, other.tiles = self.threshold, self.tiles
            return other

    def close(self) -> None:
        """Release the model; finding instances raises PumpsegError from now on."""
        self.model.close()
        for other in self._others.values():
            other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
