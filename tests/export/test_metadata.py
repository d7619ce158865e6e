"""The metadata of a model file."""

import json

import onnx

from pumpseg_export.metadata import describe, read_description, write_model


def test_metadata_describe_the_model(tiny_onnx, tiny_run):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    values = {item.key: item.value for item in onnx.load(tiny_onnx).metadata_props}
    assert set(values) == {"pumpseg"}
    metadata = json.loads(values["pumpseg"], parse_constant=refuse)
    assert metadata["format"] == 1
    assert metadata["profile"] == "edge"
    assert metadata["classes"] == ["pumpkin"]
    assert metadata["input_size"] == [96, 96]
    assert metadata["letterbox"] == {"placement": "top-left", "fill": [127, 127, 127]}
    assert (metadata["score_threshold"], metadata["nms_threshold"], metadata["max_detections"]) == (0.02, 0.5, 100)
    assert metadata["licence"] == "CC0-1.0"
    assert metadata["source_hash"].startswith("sha256:")
    assert metadata["metrics"]["photos"] == 2
    assert set(metadata["metrics"]["mask"]) == {"ap", "ap50", "ap75", "small", "medium", "large"}
    assert metadata["training"]["epochs"] == 2
    assert str(tiny_run.parent) not in values["pumpseg"], "folders of this machine are nobody's business"
    assert "fruit" not in values["pumpseg"]


def test_a_description_is_read_as_it_was_written(tiny_model, tmp_path):
    description = describe(tiny_model, (96, 128), {"epochs": 3, "data": "/home/me"}, "CC0-1.0", "sha256:00")
    assert description["training"] == {"epochs": 3}, "folder names of the training machine are private"
    write_model(onnx.ModelProto(), description, tmp_path / "x.onnx")
    assert read_description(onnx.load(tmp_path / "x.onnx")) == description


def test_a_centred_letterbox_has_its_sides(tiny_model, narrow_matterport):
    import dataclasses

    description = describe(dataclasses.replace(tiny_model, profile=narrow_matterport), (128, 128))
    assert description["letterbox"] == {"placement": "centred", "fill": [0, 0, 0], "min_side": 128, "min_scale": 0.0}
    assert description["mask_border"] == "fade"
    assert (description["licence"], description["training"]) == ("", {})
