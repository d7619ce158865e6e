"""The command as a user runs it: whole, and with half of the packages missing."""

import json
import os
import socket
import subprocess
import sys

from pumpseg.cli.doctor import main
from pumpseg.doctor import report
from pumpseg.doctor.finding import FAULT, OK, Finding

# Python imports sitecustomize when it starts, in the checks' processes too.
HIDES = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def doctor(folder, *options, path=(), **environment):
    return subprocess.run(
        [sys.executable, "-m", "pumpseg", "doctor", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *filter(None, sys.path)]), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_nothing_is_wrong_here_and_nothing_private_is_printed(tmp_path):
    home, here = tmp_path / "jane.doe", tmp_path / "acme-plant-7"
    home.mkdir()
    here.mkdir()
    done = doctor(here, "--json", HOME=str(home), LOGNAME="jane.doe", USER="jane.doe")
    found = json.loads(done.stdout)
    assert (done.returncode, found["faults"], found["verdict"], done.stderr) == (0, 0, "nothing is wrong", "")
    assert found["sections"].keys() == report.SECTIONS.keys()
    for word in ("jane.doe", "acme-plant-7", str(tmp_path), socket.gethostname(), sys.prefix, os.getcwd()):  # noqa: PTH109
        assert word not in done.stdout
    assert list(here.iterdir()) == []


def test_without_opencv_and_onnxruntime_it_says_so(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDES.format(names=["cv2", "onnxruntime"]), encoding="utf-8")
    done = doctor(tmp_path, path=[tmp_path])
    assert (done.returncode, done.stderr) == (1, "")
    assert "Traceback" not in done.stdout
    wrong = [line for line in done.stdout.splitlines() if line.startswith("  WRONG")]
    assert [line.split()[1] for line in wrong] == ["opencv:", "onnxruntime:"]
    assert "cannot be imported (No module named 'cv2')" in wrong[0]
    assert done.stdout.endswith("verdict: 2 things are wrong: see the lines after ->\n")


def test_without_numpy_it_says_so(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDES.format(names=["numpy", "av"]), encoding="utf-8")
    done = doctor(tmp_path, path=[tmp_path])
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "WRONG numpy: cannot be imported" in done.stdout


def test_text_and_exit_code_follow_the_findings(monkeypatch, capsys):
    monkeypatch.setattr(report, "SECTIONS", {"one": (lambda: [Finding("a", OK, "fine")],)})
    assert main([]) == 0
    assert capsys.readouterr().out == "one\n  ok    a: fine\nverdict: nothing is wrong\n"
    monkeypatch.setattr(report, "SECTIONS", {"one": (lambda: [Finding("a", FAULT, "broken", "mend it")],)})
    assert main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["sections"]["one"][0]["mend"] == "mend it"
