"""The script that shows that memory stays flat, over fewer frames than it is made for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "experiments" / "soak.py"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process as Linux reports it")
@pytest.mark.parametrize("options", [[], ["--live"]])
def test_memory_and_open_files_stay_flat(clip, model_path, options):
    command = [sys.executable, str(SCRIPT), str(clip), "--model", str(model_path), "--frames", "2000", "--width", "96"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    grown, left_open = re.search(r"from frame 500 to 2000: (\S+) MB, (\S+) open files", done.stdout).groups()
    assert float(grown) < 5
    assert int(left_open) <= 0
