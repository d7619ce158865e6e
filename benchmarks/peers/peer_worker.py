"""A process in a peer's own environment, which has none of pumpseg's packages.

`peer_worker.py export PEER FRAMES FOLDER SIDE...` writes for each model and input side MODEL-SIDE.onnx, and from it
MODEL-SIDE-int8.onnx and MODEL-SIDE-int8.xml, unless they are there. Weights are random as the package makes them: what
a network and its pre- and post-processing cost depends on them only by the number of detections, which is next to none
then, the cheapest case.
Otherwise the argument is the JSON of PeerWorker, and requests follow as pumpseg_bench.worker describes them.
"""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from time import perf_counter

import numpy as np

CALIBRATION_FRAMES = 20


def read_frames(description: dict) -> np.ndarray:
    """uint8 BGR (count, height, width, 3) of a `pumpseg_bench.frames.FrameFile`."""
    shape = (description["count"], description["height"], description["width"], 3)
    return np.memmap(description["path"], np.uint8, "r", shape=shape)


def export(peer: str, frames: np.ndarray, folder: Path, sides: list[int]) -> None:
    """Write the files that are missing, each one under its name when complete. A failure is printed, the rest made."""
    from quantise_peer import quantise_onnx, quantise_openvino
    from sessions import Sessions

    module = importlib.import_module(f"{peer}_peer")
    sessions = Sessions(os.cpu_count() or 1)
    for model in module.MODELS:
        for side in sides:
            source = folder / f"{model}-{side}.onnx"
            int8, ir = (source.with_name(f"{source.stem}-int8.{suffix}") for suffix in ("onnx", "xml"))
            try:
                if not source.is_file():
                    module.export(model, side, source)
                if int8.is_file() and ir.is_file():
                    continue
                sessions.recorded = inputs = []
                detect = module.predictor(source, side)
                for frame in frames[:CALIBRATION_FRAMES]:
                    detect(np.array(frame))
            except Exception:
                traceback.print_exc()
                continue
            inputs = inputs[-CALIBRATION_FRAMES:]  # some packages try a noise image first
            for target, quantise, options in (
                (int8, quantise_onnx, {}),
                (ir, quantise_openvino, {"transformer": module.TRANSFORMER}),
            ):
                if not target.is_file():
                    partial = target.with_name(f"part-{target.name}")
                    try:
                        quantise(source, partial, inputs, **options)
                    except Exception:
                        traceback.print_exc()
                        continue
                    if target == ir:
                        partial.with_suffix(".bin").replace(ir.with_suffix(".bin"))
                    partial.replace(target)


class PeerWorker:
    """The rows of one peer on so many threads.

    rows: {"onnx": file, "openvino": file that OpenVINO runs instead or null, "side": of the input} of each.
    """

    def __init__(self, peer: str, threads: int, frames: dict, rows: list[dict]) -> None:
        import cv2
        from sessions import Sessions

        cv2.setNumThreads(threads)
        if importlib.util.find_spec("torch"):
            importlib.import_module("torch").set_num_threads(threads)
        self._sessions = Sessions(threads)
        self._module = importlib.import_module(f"{peer}_peer")
        self._frames = read_frames(frames)
        self._rows = rows
        self._opened: dict[int, tuple] = {}
        self._next = 0

    def run(self, count: int, row: int) -> dict:
        """Milliseconds of `count` frames, with all of the peer's own processing, and of the network alone."""
        if row not in self._opened:
            wanted = self._rows[row]
            self._sessions.openvino = wanted["openvino"]
            detect = self._module.predictor(Path(wanted["onnx"]), wanted["side"])
            detect(np.array(self._frames[0]))  # Ultralytics opens its session at the first frame
            self._opened[row] = detect, self._sessions.last
        detect, network = self._opened[row]
        latency, session, instances = [], [], 0
        for _ in range(count):
            frame = np.array(self._frames[self._next % len(self._frames)])
            self._next += 1
            start = perf_counter()
            instances += detect(frame)
            latency.append(1000 * (perf_counter() - start))
            session.append(network.milliseconds)
        return {"latency": latency, "session": session, "instances": instances}


def serve() -> int:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        worker = PeerWorker(**json.loads(sys.argv[1]))
        print(json.dumps({"result": "ready"}), file=channel, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"result": getattr(worker, request.pop("do"))(**request)}
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=channel, flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "export":
        frames = read_frames(json.loads(sys.argv[3]))
        export(sys.argv[2], frames, Path(sys.argv[4]).resolve(), [int(side) for side in sys.argv[5:]])
    else:
        sys.exit(serve())
