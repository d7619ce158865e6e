"""Which pip command belongs to which situation; each was tried once in an environment of its own."""

import sys
import types

import pytest

from pumpseg import wheels
from pumpseg.errors import ProviderError, PumpsegError
from pumpseg.inference import providers


@pytest.fixture
def installed(monkeypatch):
    """Pretends that these wheels are installed."""

    def pretend(*names, opencv=("opencv-python",)):
        found = {"onnxruntime": list(names), "cv2": list(opencv), "numpy": ["numpy"]}
        monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: found)
        monkeypatch.setattr("importlib.metadata.version", lambda name: "1.31.1")

    return pretend


@pytest.fixture
def driver(monkeypatch):
    """Pretends that the NVIDIA driver is there, or not."""

    def pretend(there):
        def load(name):
            if not there:
                raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(wheels.ctypes, "CDLL", load)

    return pretend


def test_the_installed_wheels_are_those_with_the_package():
    assert set(wheels.installed_wheels()) & {"onnxruntime", "onnxruntime-gpu"}


@pytest.mark.parametrize(
    ("names", "command"),
    [
        ((), 'pip install "pumpseg[gpu]"'),
        (("onnxruntime",), 'pip uninstall -y onnxruntime; pip install "pumpseg[gpu]"'),
        (
            ("onnxruntime-gpu", "onnxruntime"),
            'pip uninstall -y onnxruntime onnxruntime-gpu; pip install "pumpseg[gpu]"',
        ),
        (("onnxruntime-gpu",), "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1"),
    ],
)
def test_the_way_to_the_gpu_wheel(installed, names, command):
    installed(*names)
    assert wheels.install_command("onnxruntime-gpu") == command


@pytest.mark.parametrize(
    ("names", "command"),
    [
        ((), 'pip install "pumpseg[cpu]", or "pumpseg[gpu]" for an NVIDIA GPU'),
        (("onnxruntime",), "pip install --force-reinstall --no-deps onnxruntime==1.31.1"),
        (("onnxruntime-gpu",), "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1"),
        (
            ("onnxruntime", "onnxruntime-gpu"),
            'pip uninstall -y onnxruntime onnxruntime-gpu; pip install "pumpseg[gpu]"',
        ),
        (("onnxruntime-directml",), "pip install --force-reinstall --no-deps onnxruntime-directml==1.31.1"),
    ],
)
def test_the_way_to_repair_what_cannot_be_imported(installed, driver, monkeypatch, names, command):
    installed(*names)
    driver(True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PumpsegError, match="onnxruntime cannot be imported") as caught:
        providers.import_onnxruntime()
    assert str(caught.value).endswith(f": {command}")


SWAP = "pip uninstall -y opencv-python opencv-python-headless; "


@pytest.mark.parametrize(
    ("opencv", "screen", "command"),
    [
        ((), True, 'pip install "pumpseg[cpu]", or "pumpseg[headless]" on a server without a desktop'),
        (("opencv-python",), True, "pip install --force-reinstall --no-deps opencv-python==1.31.1"),
        (("opencv-python-headless",), True, "pip install --force-reinstall --no-deps opencv-python-headless==1.31.1"),
        (("opencv-python", "opencv-python-headless"), True, SWAP + 'pip install "pumpseg[cpu]"'),
        (("opencv-python", "opencv-python-headless"), False, SWAP + 'pip install "pumpseg[headless]"'),
        (
            ("opencv-contrib-python", "opencv-python"),
            True,
            "pip uninstall -y opencv-contrib-python opencv-python; pip install opencv-contrib-python",
        ),
    ],
)
def test_the_way_to_repair_opencv(installed, monkeypatch, opencv, screen, command):
    installed("onnxruntime", opencv=opencv)
    monkeypatch.setattr(wheels.sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0" if screen else "")
    assert wheels.opencv_repair_command() == command


def test_without_the_libraries_of_a_desktop_the_headless_opencv_is_the_way(installed, monkeypatch):
    installed("onnxruntime-gpu")
    monkeypatch.setenv("DISPLAY", ":0")
    command = wheels.opencv_repair_command("libGL.so.1: cannot open shared object file: No such file or directory")
    assert command == 'pip uninstall -y opencv-python; pip install "pumpseg[headless-gpu]"'


def test_a_server_stays_one(installed):
    installed("onnxruntime", opencv=["opencv-python-headless"])
    assert wheels.install_command("onnxruntime-gpu").endswith('pip install "pumpseg[headless-gpu]"')


def test_a_folder_left_behind_is_recognised(installed, monkeypatch, tmp_path):
    installed("onnxruntime-gpu")
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # so that the remains do not stay imported
    monkeypatch.delitem(sys.modules, "onnxruntime")
    with pytest.raises(PumpsegError, match="onnxruntime is incomplete") as caught:
        providers.import_onnxruntime()
    assert str(tmp_path / "onnxruntime") in str(caught.value)
    assert str(caught.value).endswith("pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1")


def test_without_a_driver_the_wheel_for_the_cpu_is_kept(installed, driver):
    installed("onnxruntime", "onnxruntime-gpu")
    driver(False)
    assert wheels.repair_command() == 'pip uninstall -y onnxruntime onnxruntime-gpu; pip install "pumpseg[cpu]"'


def test_two_wheels_are_named(installed):
    installed("onnxruntime", "onnxruntime-gpu")
    assert wheels.doubled() == "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
    installed("onnxruntime")
    assert wheels.doubled() == ""
    installed(opencv=("opencv-python-headless", "opencv-python"))
    assert wheels.doubled("cv2").startswith("opencv-python and opencv-python-headless are both installed")


MISSING = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


def test_missing_cuda_libraries_come_from_pip_where_there_is_a_driver(driver):
    driver(True)
    assert wheels.nvidia_advice(MISSING) == 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    assert wheels.nvidia_advice("") == 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    assert wheels.nvidia_advice("CUDA failure 2: out of memory") == ""
    tensorrt = wheels.nvidia_advice("Please install TensorRT libraries as mentioned", tensorrt=True)
    assert tensorrt == 'pip install "onnxruntime-gpu[cuda,cudnn]" "tensorrt==10.*"'


def test_without_a_driver_libraries_would_not_help(driver):
    driver(False)
    assert wheels.nvidia_advice(MISSING).startswith("this machine has no NVIDIA driver; with a GPU install its driver")


def fake(available, loads):
    """An onnxruntime with these providers, of which some load."""
    import onnxruntime

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path, options, providers, **kwargs):
            super().__init__(path, options, providers=["CPUExecutionProvider"], **kwargs)

        def get_providers(self):
            return loads

    module = types.SimpleNamespace(**{name: getattr(onnxruntime, name) for name in dir(onnxruntime)})
    module.InferenceSession, module.get_available_providers = Session, lambda: available
    module.__file__ = "nowhere/onnxruntime/__init__.py"
    return module


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("available", "names", "there", "advice"),
    [
        ([CPU], ("onnxruntime",), True, 'pip uninstall -y onnxruntime; pip install "pumpseg[gpu]"'),
        (
            [CPU],
            ("onnxruntime", "onnxruntime-gpu"),
            True,
            'pip uninstall -y onnxruntime onnxruntime-gpu; pip install "pumpseg[gpu]"',
        ),
        ([CUDA, CPU], ("onnxruntime-gpu",), False, "this machine has no NVIDIA driver"),
        ([CUDA, CPU], ("onnxruntime-gpu",), True, 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
    ],
)
def test_each_situation_has_its_own_advice(model_path, installed, driver, monkeypatch, available, names, there, advice):
    installed(*names)
    monkeypatch.setattr(providers, "import_onnxruntime", lambda: fake(available, loads=[CPU]))
    monkeypatch.setattr(providers, "load_failure", lambda ort, library: MISSING)
    driver(there)
    with pytest.raises(ProviderError) as caught:
        providers.open_session(model_path, "cuda")
    assert caught.value.advice.startswith(advice)
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.advice}"
    assert "\n" not in str(caught.value)
    assert ("both installed" in str(caught.value)) == (len(names) > 1)


@pytest.mark.parametrize(("name", "system"), [("coreml", "macOS"), ("directml", "Windows")])
def test_providers_of_other_systems_are_not_to_be_installed(model_path, monkeypatch, name, system):
    monkeypatch.setattr(providers.platform, "system", lambda: "Linux")
    with pytest.raises(ProviderError, match=f"provider {name} exists on {system} only: choose another one"):
        providers.open_session(model_path, name)
