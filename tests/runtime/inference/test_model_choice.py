"""Which of a shipped model's two files a segmenter takes."""

import json
import logging

import onnx
import pytest

from pumpseg import Segmenter
from pumpseg.errors import ModelFileError
from pumpseg.inference import model_file
from pumpseg.inference.model_file import choose_model, find_model


@pytest.fixture
def shipped(make_model, metadata, tmp_path, monkeypatch):
    """An installation with two files of "fast", on a processor with VNNI; returns its folder."""
    make_model(name="fast.onnx")
    make_model(metadata | {"quantisation": {"type": "int8", "method": "minmax"}}, name="fast-int8.onnx")
    monkeypatch.setattr(model_file, "MODELS_FOLDER", tmp_path)
    monkeypatch.setattr(model_file, "int8_dot_product", lambda: "avx512_vnni")
    return tmp_path


def test_the_default_is_int8_on_a_processor_made_for_it(shipped, caplog):
    with caplog.at_level(logging.INFO, "pumpseg"):
        segmenter = Segmenter(provider="cpu")
    assert segmenter.path == shipped / "fast-int8.onnx"
    assert segmenter.info.precision == "int8"
    assert segmenter.info.choice == "int8: this processor has avx512_vnni"
    assert "model fast-int8, int8: this processor has avx512_vnni" in caplog.messages


def test_float32_elsewhere(shipped, monkeypatch):
    monkeypatch.setattr(model_file, "int8_dot_product", lambda: "")
    segmenter = Segmenter("fast", provider="cpu")
    assert segmenter.path == shipped / "fast.onnx"
    assert segmenter.info.precision == "float32"
    assert segmenter.info.choice.startswith("float32: this processor is not known to have an int8 dot product")


def test_an_installation_without_int8_files_works_and_says_so(shipped, caplog):
    (shipped / "fast-int8.onnx").unlink()
    with caplog.at_level(logging.INFO, "pumpseg"):
        segmenter = Segmenter(provider="cpu")
    assert segmenter.info.precision == "float32"
    assert segmenter.info.choice == "float32: there is no int8 file of fast in this installation"
    assert not caplog.messages
    with pytest.raises(ModelFileError, match="the model 'fast-int8' is missing from this installation"):
        Segmenter("fast-int8")


def test_devices_get_float32_and_openvino_is_on_the_cpu(shipped):
    assert choose_model(None, "cuda") == (shipped / "fast.onnx", "float32: cuda does not compute on the CPU")
    assert choose_model(None, "openvino")[0] == shipped / "fast-int8.onnx"


@pytest.mark.parametrize("instructions", ["", "avx_vnni"])
def test_either_can_be_forced(shipped, monkeypatch, instructions):
    monkeypatch.setattr(model_file, "int8_dot_product", lambda: instructions)
    for name, precision in (("fast-int8", "int8"), ("fast-fp32", "float32"), (shipped / "fast.onnx", "float32")):
        segmenter = Segmenter(name, provider="cpu")
        assert (segmenter.info.precision, segmenter.info.choice) == (precision, "")


def test_a_name_alone_finds_the_same_file_on_every_machine(shipped):
    assert find_model("fast") == find_model(None) == find_model("fast-fp32") == shipped / "fast.onnx"
    assert find_model("fast-int8") == shipped / "fast-int8.onnx"
    for name in ("fast-int8-int8", "fast-int4", "int8"):
        with pytest.raises(ModelFileError, match="neither a file nor a shipped model"):
            find_model(name)


def test_what_a_file_says_of_its_quantisation_is_kept(shipped):
    info = Segmenter("fast-int8", provider="cpu").info
    written = json.loads(onnx.load(shipped / "fast-int8.onnx").metadata_props[0].value)
    assert info.quantisation == written["quantisation"]
