"""The wheels that bring ONNX Runtime and OpenCV: which are installed, and the pip command for the situation.

`onnxruntime` and `onnxruntime-gpu` install the same package, as do `opencv-python` and `opencv-python-headless`: the
one installed last overwrites the files of the others, and uninstalling one removes them from all. So the right command
depends on what is installed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from types import ModuleType

CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"


def installed_wheels(package: str = "onnxruntime") -> tuple[str, ...]:
    """Names of the installed distributions that bring a package: onnxruntime, or cv2."""
    from importlib.metadata import packages_distributions  # on demand: a tenth of the time to the first instances

    return tuple(sorted(set(packages_distributions().get(package, ()))))


def doubled(package: str = "onnxruntime") -> str:
    """Names the wheels where several are installed; empty where there is one or none."""
    installed = installed_wheels(package)
    return f"{' and '.join(installed)} are both installed and overwrite each other" if len(installed) > 1 else ""


def install_command(wheel: str) -> str:
    """The command after which `wheel`, of ONNX Runtime, is the only one installed, and whole."""
    installed = installed_wheels()
    if installed == (wheel,):
        return _again(wheel)
    install = f"pip install {_extra(gpu=wheel == GPU_WHEEL) if wheel in (CPU_WHEEL, GPU_WHEEL) else wheel}"
    return f"pip uninstall -y {' '.join(installed)}; {install}" if installed else install


def repair_command() -> str:
    """The command for an onnxruntime that is missing, damaged or doubled; of several wheels it keeps the best."""
    installed = installed_wheels()
    if not installed:
        return f"pip install {_extra(gpu=False)}, or {_extra(gpu=True)} for an NVIDIA GPU"
    if len(installed) == 1:
        return install_command(installed[0])
    best = [GPU_WHEEL, CPU_WHEEL] if has_nvidia_driver() else [CPU_WHEEL, GPU_WHEEL]
    return install_command(next((wheel for wheel in best if wheel in installed), installed[0]))


def opencv_repair_command(reason: str = "") -> str:
    """The command for an OpenCV that is missing, damaged, doubled or, by `reason`, lacks libraries of a desktop."""
    installed = installed_wheels("cv2")
    gpu = GPU_WHEEL in installed_wheels()
    if not installed:
        desktop, server = _extra(gpu=gpu, headless=False), _extra(gpu=gpu, headless=True)
        return f"pip install {desktop}, or {server} on a server without a desktop"
    lacks_desktop = "cannot open shared object file" in reason
    if len(installed) == 1 and not lacks_desktop:
        return _again(installed[0])
    # What was chosen for more than one of its kind, contrib, is kept.
    contrib = "-contrib" if any("contrib" in name for name in installed) else ""
    headless = lacks_desktop or _headless()
    install = f"opencv{contrib}-python{'-headless' * headless}" if contrib else _extra(gpu=gpu, headless=headless)
    return f"pip uninstall -y {' '.join(installed)}; pip install {install}"


def damage(module: ModuleType, attribute: str = "InferenceSession") -> str:
    """What is wrong with an imported onnxruntime or cv2, which must have `attribute`; empty if it is whole.

    Python imports the folder that an uninstallation left behind as a namespace package, with nothing in it.
    """
    if hasattr(module, attribute):
        return ""
    folder = next(iter(getattr(module, "__path__", ())), "")
    return f"{module.__name__} is incomplete, only remains of it are in {folder}"


def nvidia_advice(reason: str, *, tensorrt: bool = False) -> str:
    """What to do when a provider for NVIDIA GPUs is in the wheel but does not load; empty if unknown.

    reason: the loader's message, empty where it gives none.
    """
    libraries = f'pip install "{GPU_WHEEL}[cuda,cudnn]"' + (' "tensorrt==10.*"' if tensorrt else "")
    if not has_nvidia_driver():
        return f"this machine has no NVIDIA driver; with a GPU install its driver, then {libraries}"
    missing = not reason or any(sign in reason for sign in ("cannot open shared object file", "install TensorRT"))
    return libraries if missing else ""


def has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _again(wheel: str) -> str:
    # pip takes it for installed, whatever became of its files.
    from importlib.metadata import version

    return f"pip install --force-reinstall --no-deps {wheel}=={version(wheel)}"


def _extra(*, gpu: bool, headless: bool | None = None) -> str:
    """The extra of pumpseg that brings both, quoted for a shell; with the OpenCV that suits this machine by default."""
    headless = _headless() if headless is None else headless
    name = "headless-gpu" if headless and gpu else "headless" if headless else "gpu" if gpu else "cpu"
    return f'"pumpseg[{name}]"'


def _headless() -> bool:
    """Whether the OpenCV without windows suits: it is the one installed, or none is alone and there is no screen."""
    kinds = {name.endswith("-headless") for name in installed_wheels("cv2")}
    if len(kinds) == 1:
        return kinds.pop()
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
