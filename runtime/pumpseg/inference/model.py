"""An opened model: what its file says, the session that runs it, and what a frame becomes for it."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import ModelFileError, ProviderError, PumpsegError, first_line
from pumpseg.inference.letterbox import Letterbox, letterbox
from pumpseg.inference.model_file import (
    MAX_MASK_SIDE,
    ROIS_MULTIPLE,
    SCORE_THRESHOLD,
    ModelInfo,
    check_tensors,
    choose_model,
    parse_metadata,
)
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


MAX_COORDINATE = 1e6
"""Pixels: boxes beyond are not meant, and larger numbers overflow."""
_ROUNDING = 1e-3  # by which a score may exceed 1


def detections_problem(found: RawDetections, info: ModelInfo) -> str:
    """What is wrong with the outputs of a graph, or ""."""
    boxes, scores, class_ids, masks = found
    count = scores.shape[:1]
    shapes = (boxes.shape, scores.shape, class_ids.shape, masks.shape[:-2])
    if len(count) != 1 or shapes != ((*count, 4), count, count, count):
        seen = ", ".join(f"{name} {list(array.shape)}" for name, array in found._asdict().items())
        return f"its outputs do not belong together: {seen}"
    if masks.shape[1] != masks.shape[2] or not 1 <= masks.shape[1] <= MAX_MASK_SIDE:
        return f"its masks have {masks.shape[1]}x{masks.shape[2]} cells"
    if not len(scores):
        return ""
    if len(scores) > info.max_detections:
        return f"it found {len(scores)} instances, and says at most {info.max_detections}"
    # Comparisons with NaN are false.
    if not (scores.min() >= 0 and scores.max() <= 1 + _ROUNDING):
        return "it gave a score that is not from 0 to 1"
    if not np.abs(boxes).max() <= MAX_COORDINATE:
        return "it gave a box that is not finite, or far outside"
    if not (class_ids.min() >= 0 and class_ids.max() < len(info.class_names)):
        wrong = class_ids.min() if class_ids.min() < 0 else class_ids.max()
        return f"it gave the class {wrong} and names {len(info.class_names)} classes"
    return ""


class Model:
    """A model file and the session that runs it. Several threads may share one.

    Attributes: `info` (ModelInfo), `path` (of the file), `provider` (name of the one that runs it).
    """

    def __init__(self, session: Session, path: Path, provider: str = "cpu", choice: str = "") -> None:
        """Take an open session; choice: see ModelInfo. Raises ModelFileError unless it runs a model of pumpseg."""
        try:
            self.info = replace(parse_metadata(session.get_modelmeta().custom_metadata_map, path), choice=choice)
            check_tensors(session.get_inputs(), session.get_outputs(), self.info, path)
            self._settings = {tensor.name for tensor in session.get_overridable_initializers()}
        except UnicodeDecodeError:
            raise ModelFileError(f"{path} has names that are not UTF-8") from None
        self.path, self.provider = path, provider
        self._session: Session | None = session
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
        """Detections of an image as `prepare` returns it; threshold: see `inputs`.

        Raises ProviderError if the model fails, ModelFileError if its outputs are not those of docs/model-file.md.
        """
        session, tensors = self.session, self.inputs(image, threshold)
        try:
            found = RawDetections(*session.run(RawDetections._fields, tensors))
        except Exception as error:
            raise ProviderError(f"{self.path} failed on provider {self.provider}: {first_line(error)}") from None
        problem = detections_problem(found, self.info)
        if problem:
            raise ModelFileError(f"{self.path} is damaged: {problem}")
        # A file of fixed size fills up with rows of score 0.
        used = np.count_nonzero(found.scores)
        if used == len(found.scores):
            return found
        return RawDetections(found.boxes[:used], found.scores[:used], found.class_ids[:used], found.masks[:used])

    def close(self) -> None:
        """Release the session; `run` raises PumpsegError from now on."""
        self._session = None
