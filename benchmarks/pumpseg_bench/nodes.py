"""Which provider ran which node of a graph, how long each took, and how much arithmetic a frame needs.

All of it comes from profiles of real frames, so that work that depends on the number of instances counts as often as it
happens.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.inference.model import Model
from pumpseg.inference.onnx_file import check_onnx_file
from pumpseg.inference.providers import OPENVINO, PROVIDERS, import_onnxruntime
from pumpseg_bench.frames import FrameFile

PROFILED_FRAMES = 10

_INT8_CONVOLUTIONS = {"QLinearConv", "ConvInteger"}
_INT8_PRODUCTS = {"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "NhwcConv"} | _INT8_CONVOLUTIONS
_PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"} | _INT8_PRODUCTS


@dataclass(frozen=True)
class NodeProfile:
    """providers: nodes of the optimised graph by the provider that ran them. operators: milliseconds a frame by
    operator type, the slowest first."""

    providers: dict[str, int]
    operators: dict[str, float]


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of one frame in convolutions and matrix products; the rest of the graph is left out."""

    operations: Annotated[float, "floating-point operations, two per multiply-accumulate"]
    int8: Annotated[float, "those of them that ONNX Runtime's CPU provider does in 8-bit integers"]


def profile_nodes(path: Path, provider: str, threads: int | None, frames: FrameFile) -> NodeProfile:
    """Profile some frames of a model on a provider, with the options of a Segmenter."""
    if provider == OPENVINO:
        return _openvino_nodes(path, threads, frames)
    with tempfile.TemporaryDirectory() as folder:
        model = Model.open(path, provider, threads=threads, profile=Path(folder) / "nodes")
        events = kernel_events(model, frames)
    places: dict[str, str] = {}
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        arguments = event["args"]
        places[event["name"]] = arguments["provider"]
        seconds[arguments["op_name"]] += event["dur"] / 1e6
    names = {provider.ort_name: name for name, provider in PROVIDERS.items()}
    counted = Counter(names.get(place, place) for place in places.values())
    return NodeProfile(dict(counted.most_common()), _per_frame(seconds))


def _openvino_nodes(path: Path, threads: int | None, frames: FrameFile) -> NodeProfile:
    model = Model.open(path, OPENVINO, threads=threads, profile=path)
    seconds: dict[str, float] = defaultdict(float)
    count = 0
    for image in prepared(model, frames):
        model.run(image, model.info.recommended_threshold)
        times = model.session.node_times()  # type: ignore[attr-defined]
        count = len(times)
        for _, kind, taken in times:
            seconds[kind] += taken
    return NodeProfile({OPENVINO: count}, _per_frame(seconds))


def arithmetic(path: Path, frames: FrameFile) -> Arithmetic:
    """Count the operations of a model, averaged over some frames, on the CPU.

    All operations are counted in the unoptimised graph, which has the nodes of the file, so that an int8 file in QDQ
    form counts like the float one; those in int8 in the optimised graph, which alone has them.
    """
    check_onnx_file(path)
    ort = import_onnxruntime()
    levels = ort.GraphOptimizationLevel
    totals = []
    for level, counted in (
        (levels.ORT_DISABLE_ALL, _CONVOLUTIONS | _PRODUCTS | {"ConvTranspose"}),
        (levels.ORT_ENABLE_ALL, _INT8_CONVOLUTIONS | _INT8_PRODUCTS),
    ):
        with tempfile.TemporaryDirectory() as folder:
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "arithmetic")
            options.log_severity_level = 3
            # Weights that a kernel has packed for itself are no longer among the inputs in its profile.
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.add_session_config_entry("session.load_model_format", "ONNX")
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            events = kernel_events(Model(session, path), frames)
        nodes = [event["args"] for event in events if event["args"]["op_name"] in counted]
        totals.append(sum(operations(node["op_name"], *_shapes(node)) for node in nodes) / PROFILED_FRAMES)
    return Arithmetic(*totals)


def operations(op_name: str, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    """Operations, two a multiply-accumulate, of one node with these shapes; 0 for any but the dense operators.

    Scales, zero points and biases among the inputs have one side at most and are ignored.
    """
    operands = [shape for shape in inputs if len(shape) >= 2]
    if len(operands) < 2:
        return 0
    data, weights = operands[0], operands[1]
    if op_name in _CONVOLUTIONS:
        # Weights are (out, in / groups, kernel...): what one output value takes.
        return 2 * math.prod(outputs[0]) * math.prod(weights[1:])
    if op_name == "ConvTranspose":
        return 2 * math.prod(data) * math.prod(weights[1:])
    if op_name in _PRODUCTS:
        result = math.prod(outputs[0])
        # Operands may be transposed, (M, K) or (K, M): K is the other one of the first operand's last two sides.
        rows = outputs[0][-2] if len(outputs[0]) >= 2 else 1
        inner = math.prod(data[-2:]) // rows if rows else 0
        return 2 * result * inner
    return 0


def kernel_events(model: Model, frames: FrameFile) -> list[dict[str, Any]]:
    """The events of the nodes' kernels in PROFILED_FRAMES runs of a model that was opened with a profile."""
    for number, image in enumerate(prepared(model, frames)):
        for _ in range(1 if number else 2):
            model.run(image, model.info.recommended_threshold)
    events = json.loads(Path(model.session.end_profiling()).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    runs = sorted((event for event in events if event.get("name") == "model_run"), key=lambda event: event["ts"])
    # Runs before these warm up; a provider other than the CPU is also tried on a black image when it is opened.
    start = runs[-PROFILED_FRAMES]["ts"]
    return [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= start
    ]


def prepared(model: Model, frames: FrameFile) -> Iterator[NDArray[np.uint8]]:
    """Some frames as the model's input, uint8 (1, h, w, 3) RGB, each valid until the next."""
    frame = frames.empty()
    for i in range(PROFILED_FRAMES):
        frames.read(i * frames.count // PROFILED_FRAMES, frame)
        yield model.prepare(frame)[0]


def _shapes(arguments: dict[str, Any]) -> tuple[list[list[int]], list[list[int]]]:
    return tuple(  # type: ignore[return-value]
        [shape for typed in arguments[key] for shape in typed.values()]
        for key in ("input_type_shape", "output_type_shape")
    )


def _per_frame(seconds: dict[str, float]) -> dict[str, float]:
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: 1000 * taken / PROFILED_FRAMES for name, taken in ordered}
