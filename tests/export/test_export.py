"""From trained weights to a finished file."""

import pytest

from pumpseg.errors import PumpsegError
from pumpseg_export import export as module
from pumpseg_export.export import TrainedModel, export, run_data


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
