"""What comes inside the package: the model and the clip."""

import json

import numpy as np
import onnx
import pytest

from pumpseg import Segmenter
from pumpseg.cli.video import main
from pumpseg.inference.model_file import SHIPPED_MODELS, find_model


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(provider="cpu")


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_models_are_small_and_made_of_standard_operators_only(name):
    path = find_model(name)
    assert path.stat().st_size < 20e6
    model = onnx.load(path)
    assert {(opset.domain, opset.version) for opset in model.opset_import} == {("", 17)}
    assert model.ir_version == 8
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Loop", "If", "Scan", "SequenceMap", "Unique"}
    assert {"NonMaxSuppression", "RoiAlign", "TopK"} <= operators
    assert all(node.domain == "" for node in model.graph.node)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_models_say_what_they_are(name):
    info = Segmenter(name, provider="cpu").info
    assert info.class_names == ("pumpkin",)
    assert info.licence == "Apache-2.0"
    assert info.source_hash.startswith("sha256:")
    assert 0 < info.metrics["mask"]["ap"] < info.metrics["mask"]["ap50"] < 1


def test_the_demo_shows_pumpkins_in_nearly_every_frame(tmp_path, capsys):
    lines = tmp_path / "demo.jsonl"
    assert main(["demo", "--no-show", "--json", str(lines)]) == 0
    frames = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(frames) == 120
    assert [frame["frame"] for frame in frames] == list(range(120))
    assert (frames[0]["width"], frames[0]["height"]) == (640, 480)
    found = [len(frame["instances"]) for frame in frames]
    assert sum(count > 0 for count in found) >= 118
    assert 3 <= sum(found) / len(found) <= 8


def test_a_grey_frame_shows_nothing(segmenter):
    instances = segmenter(np.full((480, 640, 3), 127, np.uint8))
    assert len(instances) == 0
    assert instances.masks.shape == (0, 480, 640)
