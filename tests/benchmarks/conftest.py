import subprocess
import sys

import cv2
import pytest

pytest.importorskip("psutil", reason='needs pip install "pumpseg[bench]"')

from pumpseg.inference.model_file import shipped_model
from pumpseg.video.sources.open import open_source
from pumpseg_bench.frames import write_frames
from pumpseg_bench.worker import Setup


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """One frame of the demo as an image: a source that takes no time."""
    path = tmp_path_factory.mktemp("photo") / "pumpkins.png"
    cv2.imwrite(str(path), next(iter(open_source("demo"))).image)
    return path


@pytest.fixture(scope="session")
def frames(photo):
    return write_frames(str(photo), photo.with_name("frames"))


@pytest.fixture
def setup(frames):
    """The shipped model on one thread of the CPU."""
    return Setup(str(shipped_model()), "cpu", 1, 1, frames)


@pytest.fixture(scope="session")
def run_bench():
    """Runs the command; returns the finished process with its output as text."""

    def run(*arguments):
        command = [sys.executable, "-m", "pumpseg_bench.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=600)

    return run
