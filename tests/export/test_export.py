"""From trained weights to a finished file."""

import numpy as np
import onnx
import pytest

from pumpseg.errors import PumpsegError
from pumpseg.inference.letterbox import letterbox
from pumpseg_export import export as module
from pumpseg_export.assemble import CONTEXT_MAPS, assemble
from pumpseg_export.export import TrainedModel, export, run_data
from pumpseg_export.metadata import read_description
from pumpseg_export.verifier import Detections
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame


@pytest.fixture
def trained(tiny_run, tiny_export, monkeypatch, step_by_step):
    monkeypatch.setattr(module, "assemble", lambda model, size: tiny_export.graph)
    return TrainedModel.of_run(tiny_run)


def test_a_run_has_its_settings_weights_and_data(trained, tiny_run, fruit):
    assert trained.training["epochs"] == 2
    assert trained.weights.is_relative_to(tiny_run)
    assert trained.model.classes == ("pumpkin",)
    assert run_data(tiny_run) == fruit


def test_without_photos_the_file_is_verified_on_the_demo(trained, tmp_path):
    result = export(trained, tmp_path / "model.onnx")
    assert result.metrics is None
    assert result.agreement.frames == 3
    assert all(difference.frame.startswith("frame ") for difference in result.agreement.differences)


def test_a_size_of_other_sides_is_refused(trained, tmp_path):
    with pytest.raises(PumpsegError, match="size 100x96: sides must be multiples of 32"):
        export(trained, tmp_path / "model.onnx", size=(96, 100))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_negatives_teach_a_verifier_that_the_file_has(
    trained, tiny_export, fruit, tmp_path, monkeypatch, run_graph, photos, static
):
    width = sum(trained.model.trunk.output[name].shape[-1] for name in CONTEXT_MAPS)
    asked = []

    def collected(file, data, negatives, advance):
        asked.append((file.exists(), tuple(data.splits), list(negatives)))
        features = np.random.default_rng(0).normal(size=(200, width)).astype(np.float32)
        return Detections(features, np.zeros(200, np.int64), np.arange(200) < 60)

    def assembled(model, size, verifier=None, *, features=False):
        return tiny_export.graph if verifier is None else assemble(model, size, verifier)

    monkeypatch.setattr(module, "assemble", assembled)
    monkeypatch.setattr(module, "collect", collected)
    output = tmp_path / "model.onnx"
    negatives = [photos[0]]
    export(trained, output, static=static, training=read_dataset(fruit, "train"), negatives=negatives)
    assert asked == [(True, ("train",), negatives)]
    assert read_description(onnx.load(output))["verifier"] == {"right": 60, "wrong": 140, "negatives": 1}
    image = letterbox(read_frame(photos[0]), trained.model.profile.input_size, swap_red_blue=True)[0][None]
    plain, found = run_graph(tiny_export.graph, image), run_graph(output, image)
    assert 0 < found["scores"].max() < plain["scores"].max()
    assert len(found["scores"]) == (100 if static else np.count_nonzero(found["scores"]))
