"""What is installed: pumpseg and its extras, OpenCV, ONNX Runtime, and whether their wheels clash."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, distribution, requires, version

from pumpseg import wheels
from pumpseg.doctor.finding import FAULT, NOTE, OK, Finding
from pumpseg.doctor.isolated import isolated
from pumpseg.errors import PumpsegError, first_line

TELEMETRY = "ORT_DISABLE_TELEMETRY"
# What both kinds of OpenCV and ONNX Runtime are for; they are looked at by themselves. The others are for developers.
_NOT_LISTED = ("cpu", "gpu", "headless", "headless-gpu", "dev", "docs", "matterport-reference")
_PACKAGE = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


def check_packages() -> list[Finding]:
    return [_pumpseg(), *_extras(), *_numpy(), *_opencv(), *_onnxruntime()]


def reinstall_command() -> str:
    """The line that makes pumpseg's own files whole again, for the way in which it was installed."""
    try:
        installed = distribution("pumpseg")
    except PackageNotFoundError:
        return "git checkout -- runtime    # in the clone"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if "dir_info" in origin or "vcs_info" in origin:
        return "git checkout -- runtime && pip install --force-reinstall --no-deps .    # in the clone"
    if origin:
        wheel = origin.get("url", "").rpartition("/")[2]
        return f"pip install --force-reinstall --no-deps {wheel}    # the file that pumpseg was installed from"
    return f"pip install --force-reinstall --no-deps pumpseg=={installed.version}"


def _pumpseg() -> Finding:
    try:
        return Finding("pumpseg", OK, version("pumpseg"))
    except PackageNotFoundError:
        return Finding("pumpseg", FAULT, "runs, but is not installed", "pip install .    # in the clone")


def _extras() -> list[Finding]:
    """The extras that are installed, those that are not, and the versions of their packages."""
    needed: dict[str, set[str]] = {}
    try:
        lines = requires("pumpseg") or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        extra, package = _EXTRA.search(line), _PACKAGE.match(line)
        if extra and package and extra[1] not in _NOT_LISTED and _applies(line):
            needed.setdefault(extra[1], set()).add(package[0])
    versions = {package: _version(package) for packages in needed.values() for package in packages}
    complete = [extra for extra, packages in needed.items() if all(versions[package] for package in packages)]
    others = [extra for extra in needed if extra not in complete]
    there = [f"{package} {found}" for package, found in sorted(versions.items()) if found and package != "pumpseg"]
    return [
        Finding("extras", OK, ", ".join(complete) or "none"),
        *([Finding("other extras", NOTE, f"not installed, or in parts: {', '.join(others)}")] if others else []),
        *([Finding("their packages", OK, ", ".join(there))] if there else []),
    ]


def _applies(requirement: str) -> bool:
    """Whether a requirement is for this machine; ours name none but platform_machine."""
    return "platform_machine" not in requirement or (
        ("tensorflow-cpu" in requirement) == (platform.machine() in ("x86_64", "AMD64"))
    )


def _version(package: str) -> str:
    """Empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _numpy() -> list[Finding]:
    return isolated("numpy", f"{__name__}:import_numpy")


def import_numpy() -> list[Finding]:
    try:
        import numpy as np
    except ImportError as error:
        return [
            Finding("numpy", FAULT, f"cannot be imported ({first_line(error)})", "pip install --force-reinstall numpy")
        ]
    return [Finding("numpy", OK, np.__version__)]


def _opencv() -> list[Finding]:
    clash = wheels.doubled("cv2")
    if clash:
        return [Finding("opencv", FAULT, clash, wheels.opencv_repair_command())]
    return isolated("opencv", f"{__name__}:import_opencv")


def import_opencv() -> list[Finding]:
    try:
        from pumpseg.opencv import cv2
    except PumpsegError as error:
        command = wheels.opencv_repair_command(first_line(error))
        return [Finding("opencv", FAULT, str(error).removesuffix(f": {command}"), command)]
    names = [f"{name} {version(name)}" for name in wheels.installed_wheels("cv2")]
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    windows = "no windows" if gui is None or gui[1] == "NONE" else f"windows by {gui[1]}"
    return [Finding("opencv", OK, f"{', '.join(names) or cv2.__version__} ({windows})")]


def _onnxruntime() -> list[Finding]:
    clash = wheels.doubled()
    if clash:
        return [Finding("onnxruntime", FAULT, clash, wheels.repair_command())]
    return isolated("onnxruntime", f"{__name__}:import_onnxruntime")


def import_onnxruntime() -> list[Finding]:
    os.environ.setdefault(TELEMETRY, "1")
    try:
        import onnxruntime as ort
    except ImportError as error:
        text = f"cannot be imported ({first_line(error)})"
        return [Finding("onnxruntime", FAULT, text, wheels.repair_command())]
    if damage := wheels.damage(ort):
        return [Finding("onnxruntime", FAULT, damage, wheels.repair_command())]
    names = [f"{name} {version(name)}" for name in wheels.installed_wheels()]
    return [Finding("onnxruntime", OK, ", ".join(names) or ort.__version__)]


def check_telemetry() -> list[Finding]:
    value = os.environ.get(TELEMETRY)
    if value in (None, "1"):
        return [Finding("telemetry", OK, "that of ONNX Runtime is off")]
    text = f"{TELEMETRY} is {value!r}: ONNX Runtime may send usage data"
    return [Finding("telemetry", NOTE, text, f"unset {TELEMETRY}")]
