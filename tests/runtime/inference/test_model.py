import numpy as np
import onnx
import onnxruntime
import pytest

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
