from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from pumpseg.inference.bound_session import BoundSession, FixedSession, has_fixed_outputs
from pumpseg.inference.letterbox import letterbox
from pumpseg.inference.model_file import find_model
from pumpseg.video import open_source

SIDE, CELL = 64, 16


@pytest.fixture
def plain(model_path):
    return onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])


def frame_with_cells(count):
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    for cell in range(count):
        row, column = divmod(cell, SIDE // CELL)
        image[0, CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)] = 255
    return image


def test_every_frame_gives_what_a_plain_session_gives_however_many_there_are(plain):
    bound = BoundSession(onnxruntime, plain, "cpu")
    for count in (3, 0, 16, 1, 0, 5):
        model_inputs = {"image": frame_with_cells(count)}
        found = bound.run(["boxes", "scores", "class_ids", "masks"], model_inputs)
        assert len(found[0]) == count
        for array, wanted in zip(
            found, plain.run(["boxes", "scores", "class_ids", "masks"], model_inputs), strict=True
        ):
            np.testing.assert_array_equal(array, wanted)


def test_results_of_earlier_frames_stay_as_they_were(plain):
    bound = BoundSession(onnxruntime, plain, "cpu")
    boxes = bound.run(["boxes"], {"image": frame_with_cells(2)})[0]
    copy = boxes.copy()
    bound.run(["boxes"], {"image": frame_with_cells(16)})
    np.testing.assert_array_equal(boxes, copy)


def test_threads_do_not_share_the_uploaded_frame(plain):
    bound = BoundSession(onnxruntime, plain, "cpu")
    counts = [i % 17 for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda count: len(bound.run(["boxes"], {"image": frame_with_cells(count)})[0]), counts)
        assert list(found) == counts


def test_no_names_mean_all_outputs(plain):
    assert len(BoundSession(onnxruntime, plain, "cpu").run(None, {"image": frame_with_cells(1)})) == 4


def test_settings_are_taken_from_the_cpu():
    plain = onnxruntime.InferenceSession(str(find_model("fast-fp32")), providers=["CPUExecutionProvider"])
    bound = BoundSession(onnxruntime, plain, "cpu")
    frame = next(iter(open_source("demo"))).image
    model_inputs = {"image": letterbox(frame, (384, 384))[0][None], "score_threshold": np.array([0.5], np.float32)}
    few = bound.run(["scores"], model_inputs)[0]
    assert 0 < len(few) < len(bound.run(["scores"], {"image": model_inputs["image"]})[0])
    assert few.min() > 0.5


@pytest.fixture
def static(static_model_path):
    return onnxruntime.InferenceSession(str(static_model_path), providers=["CPUExecutionProvider"])


OUTPUTS = ["boxes", "scores", "class_ids", "masks"]


def test_fixed_outputs_are_recognised(plain, static):
    assert has_fixed_outputs(static)
    assert not has_fixed_outputs(plain)


def test_fixed_buffers_give_what_a_plain_session_gives_at_every_frame(static):
    fixed = FixedSession(onnxruntime, static, "cpu")
    for count, threshold in ((3, None), (0, 0.5), (16, None), (1, 1.0), (5, 0.5), (2, None)):
        model_inputs = {"image": frame_with_cells(count)}
        if threshold is not None:
            model_inputs["score_threshold"] = np.array([threshold], np.float32)
        found, wanted = fixed.run(OUTPUTS, model_inputs), static.run(OUTPUTS, model_inputs)
        for array, right in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(array, right)
        assert np.count_nonzero(found[1]) == (0 if threshold == 1.0 else count)


def test_buffers_stay_where_they_are_and_every_set_of_inputs_has_a_graph_of_its_own(static):
    bound = []

    class Session:
        def __getattr__(self, name):
            return getattr(static, name)

        def run_with_iobinding(self, binding, options):
            addresses = [value.data_ptr() for value in binding.get_outputs()]
            bound.append((options.get_run_config_entry("gpu_graph_id"), addresses))
            static.run_with_iobinding(binding, options)

    fixed = FixedSession(onnxruntime, Session(), "cpu")
    threshold = np.array([0.5], np.float32)
    for count in range(3):
        fixed.run(None, {"image": frame_with_cells(count)})
        fixed.run(None, {"score_threshold": threshold, "image": frame_with_cells(count)})
    assert bound == bound[:2] * 3
    assert [graph for graph, _ in bound[:2]] == ["1", "2"]
    assert bound[0][1] != bound[1][1]


def test_results_of_earlier_frames_stay_as_they_were_with_fixed_buffers(static):
    fixed = FixedSession(onnxruntime, static, "cpu")
    first = fixed.run(OUTPUTS, {"image": frame_with_cells(16)})
    copies = [array.copy() for array in first]
    fixed.run(OUTPUTS, {"image": frame_with_cells(2)})
    for array, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_threads_take_turns_at_fixed_buffers(static):
    fixed = FixedSession(onnxruntime, static, "cpu")
    counts = [i % 17 for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda count: fixed.run(["scores"], {"image": frame_with_cells(count)})[0], counts)
        assert [np.count_nonzero(scores) for scores in found] == counts
