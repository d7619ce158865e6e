"""Compares several frames in one run of the trunk with one after the other, in frames per second.

    python benchmarks/experiments/batching.py  # the shipped model, batches of 1, 2, 4 and 8, one and two threads
    python benchmarks/experiments/batching.py fast-int8 --batches 1 4

The trunk, which takes nearly all of the time, gets a free batch and runs on grey images; all batches take turns in
rounds, and the best of each counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from measuring import in_turns, print_table, quiet_machine

from pumpseg.cli.arguments import count
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.model_file import find_model
from pumpseg.inference.providers import open_session


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="fast")
    parser.add_argument("--batches", type=count, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=count, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=count, default=10)
    arguments = parser.parse_args(argv)

    def measure() -> None:
        rows = []
        with tempfile.TemporaryDirectory() as folder, quiet_machine():
            path = Path(folder) / "trunk.onnx"
            onnx.save(batched_trunk(onnx.load(find_model(arguments.model))), path)
            for threads in arguments.threads:
                session = open_session(path, "cpu", threads=threads)
                shape = session.get_inputs()[0].shape[1:]
                runs = {
                    batch: partial(session.run, None, {"image": np.full((batch, *shape), 127, np.uint8)})
                    for batch in arguments.batches
                }
                times = in_turns(runs, arguments.rounds)
                rows.append([threads, *(f"{1000 * batch / min(taken):.1f}" for batch, taken in times.items())])
        print_table(("threads", *(f"{batch} at once, frames/s" for batch in arguments.batches)), rows)

    return run_command(parser.prog, measure)


def batched_trunk(model: onnx.ModelProto) -> onnx.ModelProto:
    """The trunk up to its feature maps, with a batch of any size as the first side."""
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
    """Whether the tensor is the target shape of a Reshape of a single image."""
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    return tensor.name in shapes and onnx.numpy_helper.to_array(tensor)[0] == 1


if __name__ == "__main__":
    sys.exit(main())
