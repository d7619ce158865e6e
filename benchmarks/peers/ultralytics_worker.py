"""Measures Ultralytics segmentation models as a worker of pumpseg-bench, in an environment of its own.

`ultralytics_worker.py export FOLDER SIDE...` writes NAME-SIDE.onnx for each model and input side, weights random as
the model's yaml makes them: what a network and its pre- and post-processing cost depends on the weights only by
the number of detections, which is none then, the cheapest case.
Otherwise the argument is the JSON of a row; see pumpseg_bench.worker for the requests.

Only Ultralytics' public interface is used (AGPL-3.0: none of its code is in here).
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter

# It would install missing packages with pip at run time.
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_VERBOSE"] = "false"

MODELS = ("yolo11n-seg", "yolo26n-seg")


def export(folder: Path, sides: list[int]) -> None:
    """Write the ONNX files that are missing, each one under its name when complete."""
    import torch
    from ultralytics import YOLO

    os.chdir(folder)
    for name in MODELS:
        for side in sides:
            target = Path(f"{name}-{side}.onnx")
            if not target.is_file():
                torch.manual_seed(0)
                written = YOLO(f"{name}.yaml", task="segment").export(format="onnx", imgsz=side, device="cpu")
                Path(written).replace(target)


class UltralyticsWorker:
    """One model at one input side on so many threads."""

    def __init__(self, model: str, side: int, threads: int, frames: dict) -> None:
        import cv2
        import numpy as np
        import onnxruntime
        import torch

        cv2.setNumThreads(threads)
        torch.set_num_threads(threads)
        make_session = onnxruntime.InferenceSession

        def session_with_threads(path, sess_options=None, **options):
            sess_options = sess_options or onnxruntime.SessionOptions()
            sess_options.intra_op_num_threads = threads
            # As in pumpseg: threads must not poll while another row is measured.
            sess_options.add_session_config_entry("session.force_spinning_stop", "1")
            return make_session(path, sess_options, **options)

        # Ultralytics offers no setting for the threads of ONNX Runtime.
        onnxruntime.InferenceSession = session_with_threads
        from ultralytics import YOLO

        self._model = YOLO(model, task="segment")
        self._side = side
        shape = (frames["count"], frames["height"], frames["width"], 3)
        self._frames = np.memmap(frames["path"], np.uint8, "r", shape=shape)
        self._next = 0
        self.run(1)

    def run(self, count: int) -> dict:
        """Milliseconds of `count` frames, with all of Ultralytics' own processing, and of the network alone."""
        latency, session, instances = [], [], 0
        for _ in range(count):
            frame = self._frames[self._next % len(self._frames)].copy()
            self._next += 1
            start = perf_counter()
            result = self._model.predict(frame, imgsz=self._side, device="cpu", verbose=False)[0]
            latency.append(1000 * (perf_counter() - start))
            session.append(result.speed["inference"])
            instances += len(result)
        return {"latency": latency, "session": session, "instances": instances}


def serve() -> int:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        worker = UltralyticsWorker(**json.loads(sys.argv[1]))
        print(json.dumps({"result": "ready"}), file=channel, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            answer = getattr(worker, request.pop("do"))(**request)
            print(json.dumps({"result": answer}), file=channel, flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]), [int(side) for side in sys.argv[3:]])
    else:
        sys.exit(serve())
