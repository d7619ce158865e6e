"""The wheels that bring ONNX Runtime: which are installed, and the pip command for the situation.

`onnxruntime`, `onnxruntime-gpu` and others install the same package: the one installed last overwrites the files of the
others, and uninstalling one removes them from all. So the right command depends on what is installed.
"""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import packages_distributions, version
from types import ModuleType

CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"
_EXTRAS = {CPU_WHEEL: '"pumpseg[cpu]"', GPU_WHEEL: '"pumpseg[gpu]"'}


def installed_wheels() -> tuple[str, ...]:
    """Names of the installed distributions that bring the package onnxruntime."""
    return tuple(sorted(set(packages_distributions().get("onnxruntime", ()))))


def doubled() -> str:
    """Names the wheels where several are installed; empty where there is one or none."""
    installed = installed_wheels()
    return f"{' and '.join(installed)} are both installed and overwrite each other" if len(installed) > 1 else ""


def install_command(wheel: str) -> str:
    """The command after which `wheel` is the only one installed, and whole."""
    installed = installed_wheels()
    if installed == (wheel,):
        # pip takes it for installed, whatever became of its files.
        return f"pip install --force-reinstall --no-deps {wheel}=={version(wheel)}"
    install = f"pip install {_EXTRAS.get(wheel, wheel)}"
    return f"pip uninstall -y {' '.join(installed)}; {install}" if installed else install


def repair_command() -> str:
    """The command for an onnxruntime that is missing or damaged."""
    installed = installed_wheels()
    if not installed:
        return f"pip install {_EXTRAS[CPU_WHEEL]}, or {_EXTRAS[GPU_WHEEL]} for an NVIDIA GPU"
    return install_command(GPU_WHEEL if GPU_WHEEL in installed else installed[0])


def damage(ort: ModuleType) -> str:
    """What is wrong with an imported onnxruntime; empty if it is whole.

    Python imports the folder that an uninstallation left behind as a namespace package, with nothing in it.
    """
    if hasattr(ort, "InferenceSession"):
        return ""
    folder = next(iter(getattr(ort, "__path__", ())), "")
    return f"onnxruntime is incomplete, only remains of it are in {folder}"


def nvidia_advice(reason: str, *, tensorrt: bool = False) -> str:
    """What to do when a provider for NVIDIA GPUs is in the wheel but does not load; empty if unknown.

    reason: the loader's message, empty where it gives none.
    """
    libraries = f'pip install "{GPU_WHEEL}[cuda,cudnn]"' + (' "tensorrt==10.*"' if tensorrt else "")
    if not _has_nvidia_driver():
        return f"this machine has no NVIDIA driver; with a GPU install its driver, then {libraries}"
    missing = not reason or any(sign in reason for sign in ("cannot open shared object file", "install TensorRT"))
    return libraries if missing else ""


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    return True
