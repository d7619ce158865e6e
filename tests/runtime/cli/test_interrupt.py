"""A real Ctrl-C at the moment a package begins to be imported: one line, exit code 130."""

import os
import signal
import subprocess
import sys

import pytest

from pumpseg.cli.interrupt import InterruptsHandled

# Python imports sitecustomize when it starts. The finder is asked for every module before it is imported.
INTERRUPTS_ITSELF = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
VIDEO = ["video", "demo", "--no-show", "--save", "out.mp4"]
TRAIN = ["train", "data", "--out", "run"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
@pytest.mark.parametrize(
    ("moment", "line"),
    [
        ("argparse", ["--help"]),
        ("pumpseg.cli.streams", VIDEO),
        ("numpy", VIDEO),
        ("numpy.linalg", VIDEO),
        ("cv2", VIDEO),
        ("pumpseg.segmenter", VIDEO),
        ("onnxruntime.capi", VIDEO),
        ("av.video", VIDEO),
        ("keras", TRAIN),
        ("tensorflow", TRAIN),
        ("tensorflow.python.framework", TRAIN),
    ],
)
def test_an_interruption_during_an_import_is_one_line(moment, line, tmp_path):
    for package in ("keras", "tensorflow"):
        if moment.startswith(package):
            pytest.importorskip("keras", reason='needs pip install "pumpseg[train]"')
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_ITSELF.format(moment=moment), encoding="utf-8")
    (tmp_path / "data").mkdir()
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pumpseg", *line],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [text for text in done.stderr.splitlines() if ": provider " not in text]
    program = "pumpseg" if line == ["--help"] else f"pumpseg-{line[0]}"
    assert (done.returncode, lines) == (130, [f"{program}: interrupted"])
    assert not list(tmp_path.glob("*.mp4"))


CALLS_THE_COMMAND = """
import signal
from pumpseg.cli.interrupt import InterruptsHandled, interrupt_handler
before = signal.getsignal(signal.SIGINT)
try:
    with InterruptsHandled("x"):
        assert signal.getsignal(signal.SIGINT) is not before
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is before
    print("raised")
signal.signal(signal.SIGINT, interrupt_handler("x"))
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("raised")
"""


@pytest.mark.parametrize("how", ["itself", "imported"])
def test_outside_of_imports_it_is_the_usual_exception(how, tmp_path):
    (tmp_path / "program.py").write_text(CALLS_THE_COMMAND, encoding="utf-8")
    command = [sys.executable, *({"itself": ["program.py"], "imported": ["-c", "import program"]}[how])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["raised"] * 2, "")


def test_who_ignores_interruptions_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with InterruptsHandled("x"):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
