"""An opened model: what its file says, the session that runs it, and what a frame becomes for it."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import PumpsegError
from pumpseg.inference.letterbox import Letterbox, letterbox
from pumpseg.inference.model_file import ROIS_MULTIPLE, SCORE_THRESHOLD, check_tensors, choose_model, parse_metadata
from pumpseg.inference.providers import AUTO, PROVIDERS, Session, first_that_loads, open_session

log = logging.getLogger("pumpseg")


class RawDetections(NamedTuple):
    """Outputs of the graph, best score first; docs/model-file.md defines them.

    boxes: float32 (N, 4), xyxy in input pixels. scores: float32 (N,). class_ids: int64 (N,).
    masks: float32 (N, M, M), probabilities.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    masks: NDArray[np.float32]


class Model:
    """A model file and the session that runs it. Several threads may share one.

    Attributes: `info` (ModelInfo), `path` (of the file), `provider` (name of the one that runs it).
    """

    def __init__(self, session: Session, path: Path, provider: str = "cpu", choice: str = "") -> None:
        """Take an open session; choice: see ModelInfo. Raises ModelFileError unless it runs a model of pumpseg."""
        self.info = replace(parse_metadata(session.get_modelmeta().custom_metadata_map, path), choice=choice)
        check_tensors(session.get_inputs(), session.get_outputs(), self.info, path)
        self.path, self.provider = path, provider
        self._session: Session | None = session
        self._settings = {tensor.name for tensor in session.get_overridable_initializers()}
        self._per_thread = threading.local()

    @staticmethod
    def open(
        model: str | Path | None = None,
        provider: str = AUTO,
        *,
        threads: int | None = None,
        allow_spinning: bool | None = None,
        profile: Path | None = None,
    ) -> Model:
        """Open a model: None for the shipped default, the name of a shipped model, or the path of an ONNX file.

        provider: "auto" takes the best one that loads and logs which and why; any other name is binding.
        threads, allow_spinning, profile: see `open_session`, which raises the same errors.
        """

        def attempt(name: str) -> Model:
            path, choice = choose_model(model, name)
            session = open_session(path, name, threads=threads, allow_spinning=allow_spinning, profile=profile)
            return Model(session, path, name, choice)

        opened = first_that_loads(attempt) if provider == AUTO else attempt(provider)
        if opened.info.choice and opened.info.precision != "float32":
            log.info("model %s, %s", opened.path.stem, opened.info.choice)
        return opened

    @property
    def session(self) -> Session:
        """Raises PumpsegError once the model is closed."""
        if self._session is None:
            raise PumpsegError(f"the model {self.path.name} is closed: open it again")
        return self._session

    def prepare(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Letterbox]:
        """Letterbox a frame, uint8 BGR (H, W, 3), into the model's input.

        Returns the input, uint8 (1, h, w, 3) RGB, in a buffer that this thread's next call reuses, and where the frame
        is in it.
        """
        info, buffers = self.info, self._per_thread.__dict__
        if "image" not in buffers:
            buffers["image"] = np.empty((*info.input_size, 3), np.uint8)
        image, placement = letterbox(
            frame, info.input_size, info.fill, buffers["image"], swap_red_blue=True, rule=info.letterbox
        )
        return image[None], placement

    def inputs(self, image: NDArray[np.uint8], threshold: float | None = None) -> dict[str, NDArray[Any]]:
        """What the session takes for an image as `prepare` returns it.

        threshold: the score below which detections are not needed, so that the heads skip them; None for the least
        that the file allows.
        """
        tensors: dict[str, NDArray[Any]] = {"image": image}
        # Files of earlier versions lack one setting or both.
        if threshold is not None and SCORE_THRESHOLD in self._settings:
            # The graph keeps what is above its threshold, callers what reaches theirs.
            lowest = np.nextafter(np.float32(max(threshold, self.info.score_threshold)), np.float32(0))
            tensors[SCORE_THRESHOLD] = np.array([lowest], np.float32)
        if ROIS_MULTIPLE in self._settings:
            tensors[ROIS_MULTIPLE] = np.array([PROVIDERS[self.provider].rois_multiple], np.int64)
        return tensors

    def run(self, image: NDArray[np.uint8], threshold: float | None = None) -> RawDetections:
        """Detections of an image as `prepare` returns it; threshold: see `inputs`."""
        found = RawDetections(*self.session.run(RawDetections._fields, self.inputs(image, threshold)))
        # A file of fixed size fills up with rows of score 0.
        used = np.count_nonzero(found.scores)
        if used == len(found.scores):
            return found
        return RawDetections(found.boxes[:used], found.scores[:used], found.class_ids[:used], found.masks[:used])

    def close(self) -> None:
        """Release the session; `run` raises PumpsegError from now on."""
        self._session = None
