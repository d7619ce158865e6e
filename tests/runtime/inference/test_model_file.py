import json
import logging
from pathlib import Path

import onnx
import pytest

from pumpseg.errors import ModelFileError
from pumpseg.inference import model_file
from pumpseg.inference.model_file import (
    check_tensors,
    choose_model,
    find_model,
    parse_metadata,
)
from pumpseg.segmenter import Segmenter

PATH = Path("some.onnx")


def test_metadata_become_model_info(metadata):
    info = parse_metadata({"pumpseg": json.dumps(metadata)}, PATH)
    assert info.class_names == ("pumpkin",)
    assert info.input_size == (64, 64)
    assert info.fill == (127, 127, 127)
    assert info.score_threshold == 0.05
    assert info.licence == "Apache-2.0"
    assert info.mask_border == "replicate"
    assert info.recommended_threshold == 0.5
    assert repr(info) == "ModelInfo(edge, float32, 64x64, classes: pumpkin)"


def test_a_file_may_recommend_a_threshold(metadata):
    given = {"pumpseg": json.dumps({**metadata, "recommended_threshold": 0.3})}
    assert parse_metadata(given, PATH).recommended_threshold == 0.3


def test_many_classes_are_not_all_shown(metadata):
    info = parse_metadata({"pumpseg": json.dumps({**metadata, "classes": list("abcdefgh")})}, PATH)
    assert repr(info) == "ModelInfo(edge, float32, 64x64, classes: a, b, c, d, e, ...)"


def test_a_file_without_our_key_is_refused():
    with pytest.raises(ModelFileError, match="not made by pumpseg-export"):
        parse_metadata({"stride": "32"}, PATH)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "names no format"),
        ('{"format": true}', "no format"),
        ('{"format": 1' + "0" * 5000 + "}", "not JSON"),
        ('{"format": 1' + "0" * 4000 + "}", "has format 1000"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "classes": [' + "[" * 100_000 + "]" * 100_000 + "]}", "nested too deeply"),
    ],
)
def test_damaged_json_is_refused(value, message):
    with pytest.raises(ModelFileError, match=message) as error:
        parse_metadata({"pumpseg": value}, PATH)
    assert len(str(error.value)) < 600


def test_a_newer_format_asks_for_an_upgrade(metadata):
    with pytest.raises(ModelFileError, match=r"has format 2.*upgrade"):
        parse_metadata({"pumpseg": json.dumps({**metadata, "format": 2})}, PATH)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("letterbox", {"placement": "centre", "fill": [0, 0, 0]}, "unknown letterbox placement 'centre'"),
        ("letterbox", {"placement": "top-left", "fill": [0, 0, 256]}, "fill"),
        ("letterbox", {}, "'placement' is missing"),
        ("letterbox", None, "damaged"),
        ("classes", [], "classes"),
        ("classes", "pumpkin", "classes"),
        ("input_size", [384], "input_size"),
        ("input_size", [0, 384], "input_size"),
        ("score_threshold", "high", "high"),
        ("recommended_threshold", 1.5, "recommended_threshold must be a number from 0 to 1, got 1.5"),
        ("recommended_threshold", "0.5", "recommended_threshold"),
        ("recommended_threshold", True, "recommended_threshold"),
        ("mask_border", "sharp", "unknown mask_border 'sharp'"),
        ("score_threshold", float("nan"), "score_threshold must be a number from 0 to 1, got nan"),
        ("nms_threshold", float("inf"), "nms_threshold must be a number from 0 to 1, got inf"),
        ("max_detections", 1e300, "max_detections must be a number from 0 to 100000"),
        ("input_size", [384, 100_000], "input_size must be .* of at most 8192"),
        ("letterbox", {"placement": "centred", "fill": [0, 0, 0], "min_side": 10**9}, "min_side must be a number"),
        ("letterbox", {"placement": "centred", "fill": [0, 0, 0], "min_scale": float("nan")}, "min_scale must be"),
        ("profile", "edge\x1b[2J", "profile must be a text of 1 to 200 letters"),
        ("profile", 7, "profile must be a text"),
        ("quantisation", {"type": "\n"}, "quantisation type must be a text"),
        ("classes", ["pumpkin", 7], "each of classes must be a text"),
        ("classes", ["pumpkin", "\ud800"], r"each of classes must be a text of 1 to 200 letters, got '\\ud800'"),
        ("classes", ["a\x1b]0;title\x07"], "each of classes must be a text"),
        ("classes", ["two\nlines"], "each of classes must be a text"),
        ("classes", [" "], "each of classes must be a text"),
        ("classes", ["x" * 201], "each of classes must be a text"),
        ("classes", ["x"] * 65_537, "classes must be a list of 1 to 65536 names"),
    ],
)
def test_values_that_make_no_sense_are_refused(metadata, key, value, message):
    with pytest.raises(ModelFileError, match=message) as error:
        parse_metadata({"pumpseg": json.dumps({**metadata, key: value})}, PATH)
    assert len(str(error.value)) < 600
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["pumpkin", "Kürbis", "かぼちゃ", "کدو\u200cتنبل", "\U0001f383", "bell pepper"])
def test_names_of_any_language(metadata, name):
    info = parse_metadata({"pumpseg": json.dumps({**metadata, "classes": [name]})}, PATH)
    assert info.class_names == (name,)


@pytest.mark.parametrize("key", ["classes", "input_size", "letterbox", "profile", "max_detections"])
def test_a_missing_value_is_named(metadata, key):
    rest = {name: value for name, value in metadata.items() if name != key}
    with pytest.raises(ModelFileError, match=f"'{key}' is missing"):
        parse_metadata({"pumpseg": json.dumps(rest)}, PATH)


def test_an_input_of_another_size_than_the_metadata_say_is_refused(make_model, metadata):
    with pytest.raises(ModelFileError, match="input image is"):
        Segmenter(make_model({**metadata, "input_size": [32, 64]}))


def test_other_outputs_are_refused(make_model):
    path = make_model()
    model = onnx.load(path)
    del model.graph.output[3]
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="outputs are boxes, class_ids, scores, not boxes"):
        Segmenter(path)


@pytest.mark.parametrize("content", [b"", b"just text", bytes(range(256)) * 40])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"broken\.onnx"):
        Segmenter(path)


def test_a_truncated_file_is_refused(make_model):
    path = make_model()
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ModelFileError):
        Segmenter(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"neither a file nor a shipped model \(fast"):
        find_model(tmp_path / "no.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        find_model(tmp_path)


def test_shipped_models_go_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("pumpseg.inference.model_file.MODELS_FOLDER", tmp_path)
    with pytest.raises(ModelFileError, match="missing from this installation"):
        find_model("fast")
    with pytest.raises(
        ModelFileError, match=r"no model huge: neither a file nor a shipped model \(fast, accurate, also with"
    ):
        find_model("huge")
    (tmp_path / "fast.onnx").touch()
    assert find_model() == find_model("fast") == tmp_path / "fast.onnx"
    with pytest.raises(ModelFileError, match="no model fast-int8-fp32"):
        find_model("fast-int8-fp32")


def test_shapes_left_open_are_accepted(metadata):
    class Tensor:
        def __init__(self, name, kind, shape):
            self.name, self.type, self.shape = name, f"tensor({kind})", shape

    info = parse_metadata({"pumpseg": json.dumps(metadata)}, PATH)
    outputs = [
        Tensor("boxes", "float", ["N", 4]),
        Tensor("scores", "float", [None]),
        Tensor("class_ids", "int64", []),
        Tensor("masks", "float", ["N", 28, 28]),
    ]
    check_tensors([Tensor("image", "uint8", [1, 64, 64, 3])], outputs, info, PATH)
    for cells in ([4, 6], [0, 0], [2000, 2000], ["M", 0]):
        outputs[3].shape = ["N", *cells]
        with pytest.raises(ModelFileError, match=r"its masks have .* cells, not M x M"):
            check_tensors([Tensor("image", "uint8", [1, 64, 64, 3])], outputs, info, PATH)
    outputs[0].shape = ["N", 5]
    with pytest.raises(ModelFileError, match="output boxes"):
        check_tensors([Tensor("image", "uint8", [1, 64, 64, 3])], outputs, info, PATH)


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
