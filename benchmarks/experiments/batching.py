"""Whether several frames in one run get through faster than one after the other: the trunk, frames a second.

    python benchmarks/experiments/batching.py  # the shipped model, batches of 1, 2, 4 and 8, one and two threads
    python benchmarks/experiments/batching.py fast-int8 --batches 1 4

The trunk, where nearly all of the time goes, gets a free batch and runs on grey images; all batches take turns
in rounds, and the best of each counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx

from pumpseg.cli.arguments import count
from pumpseg.cli.command import run_command
from pumpseg.inference.model_file import find_model
from pumpseg.inference.providers import open_session


def main(argv: Sequence[str] | None = None) -> int:
    return run_command("batching", lambda: measure(argv))


def measure(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="fast")
    parser.add_argument("--batches", type=count, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=count, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=count, default=10)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.onnx"
        onnx.save(backbone(onnx.load(find_model(arguments.model))), path)
        for threads in arguments.threads:
            session = open_session(path, "cpu", threads=threads)
            (place,) = session.get_inputs()
            images = {n: np.full((n, *place.shape[1:]), 127, np.uint8) for n in arguments.batches}
            times: dict[int, list[float]] = {n: [] for n in images}
            for _ in range(arguments.rounds + 1):
                for n, image in images.items():
                    start = perf_counter()
                    session.run(None, {"image": image})
                    times[n].append(perf_counter() - start)
            speeds = ", ".join(f"{n} frames {n / min(taken[1:]):.1f}/s" for n, taken in times.items())
            print(f"{arguments.model}, threads: {threads}: {speeds}", flush=True)
    return 0


def backbone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The trunk up to its feature maps, which have the batch as their first side, of any length."""
    inferred = onnx.shape_inference.infer_shapes(model)
    maps = sorted({node.input[0] for node in model.graph.node if node.op_type == "RoiAlign"})
    part = onnx.utils.Extractor(inferred).extract_model(["image"], maps)
    for value in (*part.graph.input, *part.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "B"
    del part.graph.value_info[:]
    for tensor in part.graph.initializer:
        if is_shape(tensor, part.graph):
            shape = onnx.numpy_helper.to_array(tensor).copy()
            shape[0] = -1
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    return part


def is_shape(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> bool:
    """Whether the tensor is what a Reshape makes of a single image."""
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    return tensor.name in shapes and onnx.numpy_helper.to_array(tensor)[0] == 1


if __name__ == "__main__":
    sys.exit(main())
