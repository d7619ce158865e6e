import json
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest

from pumpseg import Segmenter
from pumpseg.errors import ModelFileError, OptionError, ProviderError, PumpsegError
from pumpseg.inference.letterbox import letterbox
from pumpseg.inference.model import Model

FRAME = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def model(model_path):
    return Model.open(model_path, "cpu", threads=1)


def test_an_opened_model_knows_its_file(model, model_path):
    assert (model.path, model.provider, model.info.class_names) == (model_path, "cpu", ("pumpkin",))


def test_a_frame_is_letterboxed_as_the_file_says(model):
    image, placement = model.prepare(FRAME)
    wanted, where = letterbox(FRAME, (64, 64), (127, 127, 127), swap_red_blue=True)
    np.testing.assert_array_equal(image, wanted[None])
    assert placement == where


def test_the_buffer_is_used_again(model):
    first, _ = model.prepare(FRAME)
    second, _ = model.prepare(FRAME[::-1])
    assert np.shares_memory(first, second)


def test_outputs_by_name(model):
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[16:32, 32:48] = 255
    found = model.run(model.prepare(frame)[0])
    np.testing.assert_array_equal(found.boxes, [[32, 16, 48, 32]])
    assert found.masks.shape == (1, 4, 4)
    assert (found.class_ids, found.scores) == ([0], [1])


def test_rows_of_score_0_of_a_static_file_are_left_out(model, monkeypatch):
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[16:32, 32:48] = 255
    image = model.prepare(frame)[0]
    wanted, session = model.run(image), model.session

    class Padded:
        def run(self, names, model_inputs):
            found = session.run(names, model_inputs)
            return [np.concatenate([array, np.zeros((3, *array.shape[1:]), array.dtype)]) for array in found]

    monkeypatch.setattr(model, "_session", Padded())
    for array, expected in zip(model.run(image), wanted, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_what_a_threshold_excludes_does_not_reach_the_heads():
    model = Model.open("fast-fp32", "cpu", threads=1)
    image = np.zeros((1, *model.info.input_size, 3), np.uint8)
    assert "score_threshold" not in model.inputs(image), "the file's own"
    (lowest,) = model.inputs(image, 0.0)["score_threshold"]
    assert lowest == np.nextafter(np.float32(model.info.score_threshold), np.float32(0)), "never below the file's"
    (given,) = model.inputs(image, 0.7)["score_threshold"]
    assert given < np.float32(0.7) <= np.nextafter(given, np.float32(1)), "scores that reach it are kept"


def test_a_file_without_settings_takes_the_image_only(model):
    assert model.inputs(model.prepare(FRAME)[0], 0.5).keys() == {"image"}


def test_a_session_of_ones_own(model_path):
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    assert Model(session, model_path).info.input_size == (64, 64)


def test_one_file_is_parsed_once(model_path, monkeypatch):
    from pumpseg.inference import model as module

    calls = []
    parse = module.parse_metadata
    monkeypatch.setattr(module, "parse_metadata", lambda *given: (calls.append(given), parse(*given))[1])
    model = Model.open(model_path, "cpu")
    model.run(model.prepare(FRAME)[0])
    assert len(calls) == 1


def test_a_closed_model_says_so(model_path):
    model = Model.open(model_path, "cpu")
    image, _ = model.prepare(FRAME)
    model.close()
    with pytest.raises(PumpsegError, match=r"the model bright\.onnx is closed"):
        model.run(image)
    model.close()


def test_a_model_of_something_else(tmp_path):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(ModelFileError, match="not made by pumpseg-export"):
        Model.open(path, "cpu")


@pytest.mark.parametrize(
    ("options", "error"), [({"provider": "gpu"}, ProviderError), ({"threads": 0}, OptionError), ({}, ModelFileError)]
)
def test_what_cannot_be_opened(options, error, model_path, tmp_path):
    path = model_path if options else tmp_path / "none.onnx"
    with pytest.raises(error):
        Model.open(path, **options)


def one_instance(**other):
    """The outputs of a graph that found one pumpkin, by name."""
    outputs = {
        "boxes": np.array([[8, 8, 40, 40]], np.float32),
        "scores": np.array([0.9], np.float32),
        "class_ids": np.array([0], np.int64),
        "masks": np.ones((1, 4, 4), np.float32),
    }
    return outputs | {name: np.asarray(value, outputs[name].dtype) for name, value in other.items()}


@pytest.fixture
def giving(tmp_path, metadata):
    """Writes a model file that gives these outputs for every frame, and whose shapes are known when it runs only."""

    def write(outputs):
        from onnx import helper

        nodes, initializers, values = [], [], []
        for name, array in outputs.items():
            initializers.append(onnx.numpy_helper.from_array(array, f"all_{name}"))
            # A shape that depends on the picture is not known to anyone before.
            nodes += [
                helper.make_node("Shape", [f"all_{name}"], [f"known_{name}"]),
                helper.make_node("Add", [f"known_{name}", "nothing"], [f"shape_{name}"]),
                helper.make_node("Reshape", [f"all_{name}", f"shape_{name}"], [name], allowzero=1),
            ]
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            values.append(onnx.ValueInfoProto(name=name, type=helper.make_tensor_type_proto(kind, None)))
        start = [
            helper.make_node("Cast", ["image"], ["numbers"], to=onnx.TensorProto.INT64),
            helper.make_node("ReduceMin", ["numbers"], ["darkest"], keepdims=0),
            helper.make_node("Mul", ["darkest", "zero"], ["nothing"]),
        ]
        initializers.append(onnx.numpy_helper.from_array(np.int64(0), "zero"))
        image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 64, 64, 3])
        graph = helper.make_graph([*start, *nodes], "constant", [image], values, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {"pumpseg": json.dumps({**metadata, "max_detections": 3})})
        path = tmp_path / "giving.onnx"
        onnx.save(model, path)
        return path

    return write


PROVIDERS = ["cpu", pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("openvino"), reason="openvino"))]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_model_that_gives_what_it_should(giving, provider):
    for outputs in (one_instance(), one_instance(scores=[1.0000001])):
        found = Segmenter(giving(outputs), provider=provider, threads=1)(FRAME)
        assert len(found) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (one_instance(scores=[0.9, 0.8]), r"do not belong together: boxes \[1, 4\], scores \[2\]"),
        (one_instance(boxes=np.zeros((2, 4))), "do not belong together"),
        (one_instance(class_ids=[0, 0]), "do not belong together"),
        (one_instance(masks=np.zeros((2, 4, 4))), "do not belong together"),
        (one_instance(boxes=np.zeros((1, 5))), "do not belong together"),
        (one_instance(scores=np.float32(0.9)), "do not belong together"),
        (one_instance(scores=[[0.9]]), "do not belong together"),
        (one_instance(masks=np.zeros((1, 16))), "do not belong together"),
        (one_instance(masks=np.zeros((1, 1, 4, 4))), "do not belong together"),
        ({name: array[0] for name, array in one_instance().items()}, "do not belong together"),
        (one_instance(masks=np.zeros((1, 4, 6))), "masks have 4x6 cells"),
        (one_instance(masks=np.zeros((1, 0, 0))), "masks have 0x0 cells|do not belong"),
        (one_instance(masks=np.zeros((1, 1025, 1025))), "masks have 1025x1025 cells"),
        (one_instance(scores=[np.nan]), "a score that is not from 0 to 1"),
        (one_instance(scores=[np.inf]), "a score that is not from 0 to 1"),
        (one_instance(scores=[-np.inf]), "a score that is not from 0 to 1"),
        (one_instance(scores=[-0.1]), "a score that is not from 0 to 1"),
        (one_instance(scores=[1.5]), "a score that is not from 0 to 1"),
        (one_instance(boxes=[[0, 0, np.nan, 9]]), "a box that is not finite"),
        (one_instance(boxes=[[-np.inf, 0, 9, 9]]), "a box that is not finite"),
        (one_instance(boxes=[[0, 0, 3e38, 9]]), "a box that is not finite, or far outside"),
        (one_instance(class_ids=[1]), "gave the class 1 and names 1 classes"),
        (one_instance(class_ids=[-1]), "gave the class -1 and names 1 classes"),
        ({name: np.repeat(array, 4, 0) for name, array in one_instance().items()}, "4 instances, and says at most 3"),
    ],
)
def test_outputs_that_make_no_sense(giving, outputs, message, provider):
    # Where a runtime knows the shape before, it is refused at once.
    path = giving(outputs)
    with pytest.raises(ModelFileError, match=rf"giving\.onnx.*({message}|not tensor)") as error:
        Segmenter(path, provider=provider, threads=1)(FRAME)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_model_that_fails_on_a_frame(make_model, provider):
    path = make_model()
    model = onnx.load(path)
    (gathered,) = (node for node in model.graph.node if node.output[0] == "masks")
    gathered.output[0] = "found"
    # It holds for 16 instances only.
    model.graph.node.append(onnx.helper.make_node("Reshape", ["found", "cells"], ["masks"]))
    onnx.save(model, path)
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:16, :16] = 255
    opened = Segmenter(path, provider=provider, threads=1)
    # OpenVINO does not notice, and gives masks of other instances.
    wanted = r"model\.onnx failed on provider cpu: ." if provider == "cpu" else r"model\.onnx"
    with pytest.raises(ProviderError if provider == "cpu" else PumpsegError, match=wanted) as error:
        opened(frame)
    assert str(error.value).isprintable()


def test_names_that_are_not_text(make_model):
    path = make_model()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x12\x01N", b"\x12\x01\x90"))
    with pytest.raises(ModelFileError, match=r"UTF-8|not an ONNX file that runs here") as error:
        Model.open(path, "cpu")
    assert str(error.value).isprintable()
