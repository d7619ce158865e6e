import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pumpseg.errors import PumpsegError

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def compare():
    sys.path.insert(0, str(PEERS))
    yield importlib.import_module("compare")
    sys.path.remove(str(PEERS))
    for name in ("compare", "peer_tables"):
        del sys.modules[name]


STUB = """
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MODELS = ("stub",)
TRANSFORMER = False

def export(model, side, target):
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "stub",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, side, side])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made.metadata_props.add(key="names", value="pumpkin")
    onnx.save(made, target)

def predictor(file, side):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["names"] == "pumpkin"
    def detect(frame):
        image = np.ascontiguousarray(frame[None, :side, :side].transpose(0, 3, 1, 2) / np.float32(255))
        (found,) = session.run(None, {"x": image})
        return int(abs(found).sum() > 0)
    return detect
"""


@pytest.fixture(scope="module")
def stub(compare, frames, tmp_path_factory):
    """A peer of one convolution; NNCF is not installed here, so its int8 file for OpenVINO is missing."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("peer")
    (folder / "stub_peer.py").write_text(STUB, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        peer = compare.Peer.parse(
            json.dumps({"name": "stub", "python": sys.executable, "sides": [32], "versions": "1"})
        )
        compare.export([peer], frames, folder)
        rows = compare.contenders(["fast-int8"], [peer], folder, 1, frames)
        compare.measure(rows, 2, rounds=2)
    return rows


@pytest.mark.skipif(importlib.util.find_spec("nncf") is not None, reason="NNCF is installed")
def test_rows_of_a_peer_run_on_both_runtimes_and_a_failure_stays_with_its_row(stub):
    described = [(row.name, row.precision, row.engine, bool(row.failure)) for row in stub]
    assert described == [
        ("pumpseg fast-int8", "int8", "ONNX Runtime", False),
        ("pumpseg fast-int8", "int8", "OpenVINO", False),
        ("stub", "float32", "ONNX Runtime", False),
        ("stub", "float32", "OpenVINO", False),
        ("stub", "int8", "ONNX Runtime", False),
        ("stub", "int8", "OpenVINO", True),
    ]
    for row in stub:
        if not row.failure:
            assert [len(samples) for samples in row.latency] == [1, 1]
            assert all(
                network <= whole for network, whole in zip(*map(np.ravel, (row.session, row.latency)), strict=True)
            )
            assert row.instances > 0


def test_a_qdq_file_of_a_peer_is_in_int8(stub):
    file = json.loads(stub[-1].argument)["rows"][2]["onnx"]
    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert "QuantizeLinear" in kinds
    scales = [numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer if one.name.endswith("w_scale")]
    assert [scale.shape for scale in scales] == [(8,)], "one scale per channel"


def values_of(rows):
    row = {"threads": 1, "session": [[9.0] * 3] * 4, "instances": 3.0, "failure": ""}
    return {
        "created": "2026-11-28",
        "machine": {"processor": "Some CPU", "cores": 4, "system": "Linux", "versions": {"python": "3.11"}},
        "other_cores": 0.0,
        "peers": ["peer 1.0"],
        "source": "demo",
        "instances": 3,
        "frames": {"count": 29, "width": 640, "height": 480},
        "rows": [
            row
            | {"name": name, "precision": precision, "engine": engine, "side": side}
            | ({"latency": [[time] * 3] * 4} if time else {"latency": [], "failure": "no such file"})
            for name, precision, engine, side, time in rows
        ],
    }


def test_tables_compare_equal_precisions_and_a_faster_peer_stays(compare):
    ort, openvino = "ONNX Runtime", "OpenVINO"
    values = values_of(
        [
            ("pumpseg fast", "float32", ort, 384, 20.0),
            ("pumpseg fast-int8", "int8", ort, 384, 10.0),
            ("pumpseg fast-int8", "int8", openvino, 384, 12.0),
            ("yolo", "float32", ort, 640, 60.0),
            ("yolo", "int8", ort, 640, 50.0),
            ("yolo", "int8", ort, 384, 9.0),
            ("yolo", "int8", openvino, 384, None),
            ("rf-detr-seg-nano", "int8", openvino, 312, 24.0),
            ("rf-detr-seg-nano", "int8", openvino, 384, 36.0),
        ]
    )
    text = compare.section_of(values)
    assert text.startswith(
        "2026-11-28, Some CPU, 4 cores, Linux; python 3.11; peer 1.0. Frames of 640x480 from demo, 3"
    )
    native, same = text.split("All at 384x384:")
    assert "| 1 | float32 | yolo | ONNX Runtime | 640 | 60.0 (60.0–60.0) | 9.0 | 3.00 (3.00–3.00) | 3.0 |" in native
    assert "| 1 | int8 | yolo | ONNX Runtime | 640 | 50.0 (50.0–50.0) | 9.0 | 5.00 (5.00–5.00) | 3.0 |" in native
    assert "| rf-detr-seg-nano | OpenVINO | 312 | 24.0 (24.0–24.0) | 9.0 | 2.00 (2.00–2.00) |" in native
    assert "| 1 | int8 | yolo | ONNX Runtime | 384 | 9.0 (9.0–9.0) | 9.0 | 0.90 (0.90–0.90) | 3.0 |" in same
    assert "| rf-detr-seg-nano | OpenVINO | 384 | 36.0 (36.0–36.0) | 9.0 | 3.00 (3.00–3.00) |" in same
    assert "| 640 |" not in same
    assert "- yolo in int8, OpenVINO, at 384: no such file" in same
    assert "machine was busy" not in text
    assert "machine was busy" in compare.section_of(values | {"other_cores": 2.0})


@pytest.mark.parametrize("name", ["peers", "mrcnn"])
def test_the_table_goes_between_its_markers(compare, name):
    readme = compare.README.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: made by peers/run.py -->", f"<!-- end of {name} -->"
    changed = compare.insert(readme, "new", name)
    assert f"{begin}\n\nnew\n\n{end}" in changed
    assert compare.insert(changed, "new", name) == changed
    assert changed.split(begin)[0] == readme.split(begin)[0]
    assert changed.split(end)[1] == readme.split(end)[1]
    with pytest.raises(PumpsegError, match="once each"):
        compare.insert("no markers", "new", name)


def test_the_ratio_of_rows_that_took_turns(compare):
    rng = np.random.default_rng(0)
    mood = rng.gamma(4, 1, (10, 1))
    base = mood * rng.uniform(9, 11, (10, 6))
    ratio, low, high = compare.ratio_interval(3 * base, base)
    assert ratio == pytest.approx(3)
    # The machine's mood is common to both, so it leaves no doubt about their ratio.
    assert low == pytest.approx(3)
    assert high == pytest.approx(3)


def test_a_row_of_the_table(compare, frames):
    rows = [compare.Contender(name, "384", 1, (), "") for name in ("pumpseg fast", "peer")]
    for factor, row in enumerate(rows, 1):
        row.latency, row.session, row.instances = [[10.0 * factor] * 3] * 4, [[9.0 * factor] * 3] * 4, 24
    text = compare.table([rows], frames, "demo", "peer 1.0", 0.0)
    assert "12 measured of each row" in text
    assert "| 1 | pumpseg fast | 384 | 10.0 (10.0–10.0) | 9.0 | 1 | 2.0 |" in text
    assert "| 1 | peer | 384 | 20.0 (20.0–20.0) | 18.0 | 2.00 (2.00–2.00) | 2.0 |" in text
    assert "machine was busy" not in text
    assert "machine was busy" in compare.table([rows], frames, "demo", "peer 1.0", 9.0)
