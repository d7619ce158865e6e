import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.errors import ModelFileError, ProviderError
from pumpseg.inference.model_file import find_model
from pumpseg.inference.openvino_session import OpenVinoSession
from pumpseg.video.sources.open import open_source

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def both():
    """The shipped model on OpenVINO and on ONNX Runtime's CPU provider."""
    return Segmenter("fast-fp32", provider="openvino", threads=1), Segmenter("fast-fp32", provider="cpu", threads=1)


def test_the_shipped_model_gives_what_the_cpu_provider_gives(both):
    openvino, cpu = both
    assert openvino.provider == "openvino"
    assert openvino.info == cpu.info
    compared = 0
    for frame in list(open_source("demo"))[::40]:
        found, wanted = openvino(frame.image), cpu(frame.image)
        np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.01)
        # bfloat16, OpenVINO's default where the CPU has it, is off by 0.3 and more here.
        np.testing.assert_allclose(found.cells.probabilities, wanted.cells.probabilities, atol=1e-3)
        compared += len(found)
    assert compared > 5


def test_the_shipped_model_may_find_nothing(both):
    instances = both[0](np.full((480, 640, 3), 127, np.uint8))
    assert len(instances) == 0
    assert instances.masks.shape == (0, 480, 640)


def test_the_score_threshold_can_be_set():
    # What cannot reach it does not get as far as the heads; the results are those of a file that knows none.
    session = OpenVinoSession(find_model(), threads=1)
    assert [tensor.name for tensor in session.get_overridable_initializers()] == ["score_threshold"]
    frame = list(open_source("demo"))[40].image
    weak, strong = (Segmenter(provider="openvino", threads=1, threshold=score)(frame) for score in (0.1, 0.945))
    count = len(strong)
    assert 0 < count < len(weak)
    np.testing.assert_allclose(strong.boxes, weak.boxes[:count], atol=1e-3)
    np.testing.assert_allclose(strong.cells.probabilities, weak.cells.probabilities[:count], atol=1e-4)


def test_any_number_of_instances_and_then_none(model_path):
    segmenter = Segmenter(model_path, provider="openvino", threads=1)
    for count in (3, 0, 16, 1):
        frame = np.zeros((64, 64, 3), np.uint8)
        for cell in range(count):
            row, column = divmod(cell, 4)
            frame[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255
        assert len(segmenter(frame)) == count


def test_threads_share_a_segmenter(model_path):
    segmenter = Segmenter(model_path, provider="openvino", threads=1)
    frames = []
    for i in range(16):
        frames.append(np.zeros((64, 64, 3), np.uint8))
        row, column = divmod(i, 4)
        frames[-1][16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segmenter, frames * 5))
    for i, instances in enumerate(found):
        row, column = divmod(i % 16, 4)
        np.testing.assert_array_equal(instances.boxes[:, :2], [[16 * column, 16 * row]])


INTERRUPTED = """
import gc, signal, sys
from pathlib import Path
from pumpseg.inference.openvino_session import OpenVinoSession
sessions = [OpenVinoSession(Path(sys.argv[1])) for _ in range(3)]
while sessions:
    del sessions[0]
    gc.collect()
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_signals_arrive_after_sessions_have_ended(model_path):
    """In the order in which they began, as when a watched model file is replaced."""
    command = [sys.executable, "-c", INTERRUPTED, str(model_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["interrupted"] * 3)


def test_node_times():
    session = OpenVinoSession(find_model(), threads=1, profile=True)
    session.run(None, {"image": np.zeros((1, 384, 384, 3), np.uint8)})
    times = session.node_times()
    assert {"Convolution", "RoiAlign"} & {kind for _, kind, _ in times}
    assert 0 < sum(seconds for _, _, seconds in times) < 60


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(find_model().read_bytes()[:20000])
    with pytest.raises(ModelFileError, match=r"damaged\.onnx is not an ONNX file that runs here") as error:
        Segmenter(path, provider="openvino")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_ours_is_refused(make_model):
    with pytest.raises(ModelFileError, match="was not made by pumpseg-export"):
        Segmenter(make_model(None), provider="openvino")


def test_a_missing_openvino_names_the_extra(model_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ProviderError, match=r'openvino cannot be imported.*pip install "pumpseg\[openvino\]"') as error:
        Segmenter(model_path, provider="openvino")
    assert "\n" not in str(error.value)
