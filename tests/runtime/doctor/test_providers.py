from types import SimpleNamespace

import pytest

from pumpseg.doctor import providers as doctor_providers
from pumpseg.doctor.finding import FAULT, NOTE, OK
from pumpseg.doctor.providers import check_providers, try_provider
from pumpseg.errors import ProviderError
from pumpseg.inference import providers


def test_the_cpu_loads_and_others_are_told_with_the_line_that_brings_them():
    found = {finding.topic: finding for finding in check_providers()}
    assert {"cpu", "cuda", "tensorrt", "openvino"} <= found.keys()
    assert found["cpu"].status == OK
    assert FAULT not in {finding.status for finding in found.values()}
    if found["cuda"].status == NOTE:
        assert "pip install" in found["cuda"].mend


@pytest.fixture
def gpu_wheel(monkeypatch):
    """onnxruntime-gpu with a CUDA that does not load."""

    def refuse(*_):
        raise ProviderError("provider cuda did not load: libcublas.so.13: cannot open", "install its driver")

    available = ["CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"]
    ort = SimpleNamespace(get_available_providers=lambda: available, __file__="nowhere/__init__.py")
    monkeypatch.setattr(providers, "import_onnxruntime", lambda: ort)
    monkeypatch.setattr(providers, "open_session", refuse)
    monkeypatch.setattr(doctor_providers.wheels, "installed_wheels", lambda package="onnxruntime": (f"{package}-gpu",))


@pytest.mark.parametrize("driver", [True, False])
def test_a_gpu_wheel_without_cuda_is_a_fault(gpu_wheel, monkeypatch, driver):
    monkeypatch.setattr(doctor_providers.wheels, "has_nvidia_driver", lambda: driver)
    (found,) = try_provider("cuda")
    assert found.status == FAULT
    assert "libcublas.so.13" in found.text
    if driver:
        assert found.mend == "install its driver"
    else:
        assert found.mend.startswith("pip uninstall -y onnxruntime-gpu; pip install ")


def test_a_tensorrt_that_does_not_load_is_no_fault(gpu_wheel, monkeypatch):
    monkeypatch.setattr(providers, "load_failure", lambda *_: "libnvinfer.so.10: cannot open shared object file")
    (found,) = try_provider("tensorrt")
    assert found.status == NOTE
    assert "libnvinfer.so.10" in found.text
