"""What the doctor finds in an environment of its own is mended by the lines that it prints.

The wheels are stubs with the names, versions and files that matter; their packages lead to those of this environment.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.scratch_environment

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEADS_ELSEWHERE = """
import importlib.util, sys
real = {folder!r}
spec = importlib.util.spec_from_file_location({package!r}, real + "/__init__.py", submodule_search_locations=[real])
module = sys.modules[{package!r}] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
HAS_CUDA = """
module.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
module.package_name = "onnxruntime-gpu"
"""


def stub(folder, name, version, files, metadata=()):
    """A wheel of these files; metadata: more lines of it."""
    package = f"{name.replace('-', '_')}-{version}"
    info = f"{package}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata, ""]
    files = {
        **files,
        f"{info}/METADATA": "\n".join(lines),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{package}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def leading_to(package):
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    return LEADS_ELSEWHERE.format(folder=folder, package=package)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name, version, package, more in (
        ("numpy", "2.4.0", "numpy", ""),
        ("shtab", "1.13.0", "shtab", ""),
        ("onnxruntime", "1.30.0", "onnxruntime", ""),
        ("onnxruntime-gpu", "1.30.0", "onnxruntime", HAS_CUDA),
        ("opencv-python", "5.0.0.93", "cv2", ""),
        ("opencv-python-headless", "5.0.0.93", "cv2", ""),
    ):
        stub(folder, name, version, {f"{package}/__init__.py": leading_to(package) + more})
    extras = PROJECT["optional-dependencies"]
    metadata = [
        *(f"Requires-Dist: {needed}" for needed in PROJECT["dependencies"]),
        *(f"Provides-Extra: {extra}" for extra in extras),
        *(
            f"Requires-Dist: {needed}; extra == '{extra}'"
            for extra in ("cpu", "gpu", "headless", "headless-gpu")
            for needed in extras[extra]
        ),
    ]
    stub(folder, "pumpseg", PROJECT["version"], {"pumpseg.pth": f"{ROOT / 'runtime'}\n"}, metadata)
    return folder


class Environment:
    """A virtual environment; `pip` in its shell installs the stubs into it."""

    def __init__(self, folder, wheels):
        venv.create(folder)
        self.python = folder / "bin" / "python"
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DISPLAY")},
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def shell(self, line):
        pip = f'pip() {{ "{sys.executable}" -m pip --python "{self.python}" --quiet "$@"; }}; '
        subprocess.run(["bash", "-c", pip + line], env=self._environment, cwd=self._folder, check=True, timeout=300)

    def doctor(self):
        """Exit code, and the faults by topic."""
        done = subprocess.run(
            [self.python, "-m", "pumpseg", "doctor", "--json"],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stderr == ""
        findings = [finding for section in json.loads(done.stdout)["sections"].values() for finding in section]
        return done.returncode, {one["topic"]: one for one in findings if one["status"] == "fault"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels):
    return Environment(tmp_path_factory.mktemp("environment"), wheels)


def test_the_printed_lines_mend_both_runtimes_and_both_opencvs(environment):
    environment.shell("pip install 'pumpseg[headless]' && pip install --no-deps onnxruntime-gpu opencv-python")
    code, faults = environment.doctor()
    assert (code, faults.keys()) == (1, {"onnxruntime", "opencv"} | ({"cuda"} & faults.keys()))
    assert "both installed" in faults["onnxruntime"]["text"]
    assert "both installed" in faults["opencv"]["text"]
    environment.shell(faults["opencv"]["mend"])
    environment.shell(faults["onnxruntime"]["mend"])
    assert environment.doctor() == (0, {})


def test_the_printed_line_mends_a_gpu_wheel_without_cuda(environment):
    environment.shell("pip uninstall -y onnxruntime opencv-python-headless; pip install 'pumpseg[headless-gpu]'")
    code, faults = environment.doctor()
    assert (code, faults.keys()) == (1, {"cuda"})
    assert "did not load" in faults["cuda"]["text"]
    environment.shell(faults["cuda"]["mend"])
    assert environment.doctor() == (0, {})


def test_the_printed_line_mends_what_an_uninstallation_left_behind(environment):
    environment.shell("pip install --no-deps opencv-python && pip uninstall -y opencv-python")
    code, faults = environment.doctor()
    assert (code, faults.keys()) == (1, {"opencv"})
    environment.shell(faults["opencv"]["mend"])
    assert environment.doctor() == (0, {})
