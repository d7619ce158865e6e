"""Measures mrcnn's own detect(), on TensorFlow with oneDNN, as a worker of pumpseg-bench.

The argument is a JSON object: `frames` and `threads` as in `pumpseg_bench.worker.Setup`, `weights` (.h5), `backbone`,
`classes` with the background, `size` and `min_side` (IMAGE_MAX_DIM, IMAGE_MIN_DIM) and `confidence`. The requests are
those of pumpseg_bench.worker. mrcnn runs as in the tests, tests/mrcnn_reference.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from pumpseg_bench.frames import FrameFile
from pumpseg_bench.worker import serve

REFERENCE = Path(__file__).parents[2] / "tests" / "mrcnn_reference"


class MrcnnWorker:
    """mrcnn with the weights of a file. TensorFlow is imported here, when its threads are set."""

    def __init__(self, threads: int, frames: dict[str, Any], weights: str, **settings: Any) -> None:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = str(threads)
        sys.path.insert(0, str(REFERENCE))
        import oracle

        logs = Path(frames["path"]).with_name("logs")  # mrcnn makes it in any case
        self._model = oracle.MaskRCNN("inference", oracle.make_config(argparse.Namespace(**settings)), str(logs))
        self._model.load_weights(weights, by_name=True)
        self._predict = self._model.keras_model.predict
        self._model.keras_model.predict = self._timed_predict
        self._session: list[float] = []
        self._frames = FrameFile(Path(frames.pop("path")), **frames)
        self._next = 0
        self.run(1)

    def run(self, count: int) -> dict[str, Any]:
        """Milliseconds of `count` frames in detect(), and in the network inside it."""
        frame, latency, instances = self._frames.empty(), [], 0
        self._session.clear()
        for _ in range(count):
            self._frames.read(self._next, frame)
            self._next += 1
            image = np.ascontiguousarray(frame[..., ::-1])
            start = perf_counter()
            detections = self._model.detect([image])[0]
            latency.append(1000 * (perf_counter() - start))
            instances += len(detections["scores"])
        return {"latency": latency, "session": list(self._session), "instances": instances}

    def _timed_predict(self, *arguments: Any, **options: Any) -> Any:
        start = perf_counter()
        answers = self._predict(*arguments, **options)
        self._session.append(1000 * (perf_counter() - start))
        return answers


if __name__ == "__main__":
    sys.exit(serve(lambda text: MrcnnWorker(**json.loads(text))))
