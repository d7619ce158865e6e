"""OpenCV may be missing, damaged, or unable to load: one line each, with the pip command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pumpseg
from pumpseg.errors import MissingPackageError, PumpsegError

PROGRAM = """
import importlib.metadata, sys
sys.path.insert(0, sys.argv[1])
try:
    from pumpseg import Segmenter
except ImportError as error:
    print(type(error).__name__, error.name, error)
"""


def test_it_is_opencv():
    import cv2

    from pumpseg import opencv

    assert opencv.cv2 is cv2


def test_a_missing_opencv_can_be_caught_as_either_kind():
    assert issubclass(MissingPackageError, PumpsegError)
    assert issubclass(MissingPackageError, ImportError)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ModuleNotFoundError(\"No module named 'cv2'\")", "cv2 cannot be imported (No module named 'cv2'): pip"),
        (
            "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
            'pumpseg[headless]"',
        ),
        ("", "cv2 is incomplete"),
    ],
)
def test_an_opencv_that_does_not_load_is_one_line(source, message, tmp_path):
    (tmp_path / "cv2.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("MissingPackageError cv2 ")
    assert message in done.stdout
    assert "pip " in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_the_whole_runtime_takes_opencv_from_here():
    folder = Path(pumpseg.__file__).parent
    own = [path for path in folder.rglob("*.py") if re.search(r"^import cv2$", path.read_text("utf-8"), re.MULTILINE)]
    assert own == [], "from pumpseg.opencv import cv2 names the pip command where it is missing"
