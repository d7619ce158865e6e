"""Wheels that clash or are damaged, and the line that mends it. `test_scratch_environment.py` follows these lines."""

import importlib.metadata
import json

import pytest

from pumpseg import wheels
from pumpseg.doctor import packages
from pumpseg.doctor.finding import FAULT, NOTE, OK


@pytest.fixture
def installed(monkeypatch):
    def pretend(onnxruntime=("onnxruntime",), opencv=("opencv-python",)):
        found = {"onnxruntime": list(onnxruntime), "cv2": list(opencv)}
        monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: found)
        monkeypatch.setattr(wheels, "has_nvidia_driver", lambda: False)
        return {finding.topic: finding for finding in packages.check_packages()}

    return pretend


def test_both_runtimes_are_a_fault(installed):
    found = installed(onnxruntime=("onnxruntime", "onnxruntime-gpu"))["onnxruntime"]
    assert found.status == FAULT
    assert found.text == "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
    assert found.mend == 'pip uninstall -y onnxruntime onnxruntime-gpu; pip install "pumpseg[cpu]"'


def test_both_opencvs_are_a_fault(installed, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    found = installed(opencv=("opencv-python", "opencv-python-headless"))["opencv"]
    assert (found.status, found.text.count("both installed")) == (FAULT, 1)
    assert found.mend == 'pip uninstall -y opencv-python opencv-python-headless; pip install "pumpseg[cpu]"'


def test_what_is_installed_has_its_version():
    found = {finding.topic: finding for finding in packages.check_packages()}
    assert found["pumpseg"].text == importlib.metadata.version("pumpseg")
    assert found["numpy"].text == importlib.metadata.version("numpy")
    assert found["opencv"].status == OK
    assert "windows" in found["opencv"].text
    assert importlib.metadata.version("av") in found["their packages"].text
    assert "video" in found["extras"].text


def test_extras_are_complete_or_not(monkeypatch):
    lines = [
        "numpy",
        "numpy; extra == 'a'",
        "no-such-thing>=1; extra == 'b'",
        'numpy>=2; extra == "b"',
        "x; extra == 'dev'",
    ]
    monkeypatch.setattr(packages, "requires", lambda _: lines)
    found = {finding.topic: finding for finding in packages.check_packages()}
    assert found["extras"].text == "a"
    assert found["other extras"].text == "not installed, or in parts: b"


@pytest.mark.parametrize(("value", "status"), [(None, OK), ("1", OK), ("0", NOTE)])
def test_telemetry(value, status, monkeypatch):
    monkeypatch.delenv(packages.TELEMETRY, raising=False)
    if value is not None:
        monkeypatch.setenv(packages.TELEMETRY, value)
    (found,) = packages.check_telemetry()
    assert found.status == status


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install --force-reinstall --no-deps pumpseg==9.9"),
        (
            {"url": "file:///home/me/pumpseg-9.9-py3-none-any.whl", "archive_info": {}},
            "--no-deps pumpseg-9.9-py3-none-any.whl ",
        ),
        ({"url": "file:///home/me/pumpseg", "dir_info": {"editable": True}}, "git checkout -- runtime "),
    ],
)
def test_pumpseg_is_reinstalled_from_where_it_came(origin, command, monkeypatch):
    class Installed:
        version = "9.9"

        def read_text(self, name):
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr(packages, "distribution", lambda _: Installed())
    assert command in packages.reinstall_command()
    assert "/home" not in packages.reinstall_command()
