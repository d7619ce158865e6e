"""Mutations of a shipped model file: its bytes, its metadata, its graph, external data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from commands import Case, WarmCommands, emptied, left_hidden
from damage import damage_bytes, damage_json

from pumpseg.inference.model_file import METADATA_KEY, find_model

Change = Callable[[onnx.ModelProto, random.Random], str]


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` cases; a third damages bytes, a third the metadata, a third the graph."""
    intact = find_model("fast-int8").read_bytes()
    changes: dict[str, Change] = {"metadata": _metadata, "graph": _graph}
    for number in range(count):
        kind = ("bytes", *changes)[number % 3]
        with emptied(work / f"case-{number}") as folder:
            if kind == "bytes":
                content, how = damage_bytes(intact, rng)
            else:
                model = onnx.load_from_string(intact)
                how = changes[kind](model, rng)
                content = model.SerializeToString()
            (folder / "model.onnx").write_bytes(content)
            yield _case(warm, folder, kind, how)


def _case(warm: WarmCommands, folder: Path, kind: str, how: str) -> Case:
    words = ["demo", "--limit", "2", "--no-show", "--threads", "1", "--provider", "cpu", "--model", "model.onnx"]
    ended = warm.run("pumpseg-video", [*words, "--json", "out.jsonl", "--save", "out.mp4"], folder)
    problems = ended.problems({0, 2})
    made = [folder / "out.jsonl", folder / "out.mp4"]
    if ended.code == 0:
        problems += [f"{path.name} is missing" for path in made if not path.exists()]
        if made[0].exists() and any(word in made[0].read_text(encoding="utf-8") for word in ("NaN", "Infinity")):
            problems.append("values that JSON does not have")
    elif any(path.exists() for path in made):
        problems.append("an output of a failed run")
    return Case(kind, how, ended, problems + left_hidden(folder), folder)


def _metadata(model: onnx.ModelProto, rng: random.Random) -> str:
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    changed, how = damage_json(json.loads(entry.value), rng)
    entry.value = json.dumps(changed)
    return how


def _graph(model: onnx.ModelProto, rng: random.Random) -> str:
    graph = model.graph
    node, weights = rng.choice(graph.node), rng.choice(graph.initializer)
    changes: list[tuple[str, Callable[[], object]]] = [
        (f"node {node.name} left out", lambda: graph.node.remove(node)),
        (f"node {node.name} of another type", lambda: setattr(node, "op_type", rng.choice(graph.node).op_type)),
        (f"node {node.name} of no type", lambda: setattr(node, "op_type", "Nothing")),
        (f"node {node.name} in a circle", lambda: node.input.append(node.output[0])),
        (f"node {node.name} without attributes", lambda: node.ClearField("attribute")),
        (f"weights {weights.name} left out", lambda: graph.initializer.remove(weights)),
        (f"weights {weights.name} of another shape", lambda: weights.dims.append(rng.choice([0, 2, 10**9]))),
        (f"weights {weights.name} of another type", lambda: setattr(weights, "data_type", rng.randrange(1, 20))),
        (f"weights {weights.name} elsewhere", lambda: _external(weights, "../../../../etc/passwd")),
        (f"weights {weights.name} in memory", lambda: _external(weights, "*/_ORT_MEM_ADDR_/*")),
        ("an output left out", lambda: graph.output.pop(rng.randrange(len(graph.output)))),
        ("outputs in another order", lambda: _swap(graph, rng)),
        ("an old operator set", lambda: setattr(model.opset_import[0], "version", 1)),
        ("a future operator set", lambda: setattr(model.opset_import[0], "version", 999)),
        ("no metadata", lambda: model.ClearField("metadata_props")),
        ("an input of another size", lambda: setattr(graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 10**6)),
    ]
    name, change = rng.choice(changes)
    change()
    return name


def _external(weights: onnx.TensorProto, location: str) -> None:
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        weights.external_data.add(key=key, value=value)


def _swap(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Two results under each other's names."""
    first, second = rng.sample([output.name for output in graph.output], 2)
    for node in graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = {first: second, second: first}.get(name, name)
