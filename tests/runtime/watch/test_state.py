"""What survives a restart."""

import os
import stat
import subprocess
import sys

import pytest

from pumpseg.errors import SinkError
from pumpseg.watch.state import StateFolder


def test_states_and_the_token_are_there_again(tmp_path):
    with StateFolder(tmp_path / "new" / "state") as folder:
        assert folder.load("gate") == {}
        folder.save("gate", {"count": 3})
        folder.save("gate", {"count": 4}, sync=True)
        folder.save("yard", {"count": 5})
        token = folder.token()
        assert len(token) > 16
    with StateFolder(tmp_path / "new" / "state") as folder:
        assert (folder.load("gate"), folder.load("yard")) == ({"count": 4}, {"count": 5})
        assert folder.token() == token
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "new" / "state" / "page-token").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_state_is_set_aside(tmp_path, content, caplog):
    with StateFolder(tmp_path) as folder:
        folder.save("gate", {"count": 4})
        (tmp_path / "camera-gate.json").write_bytes(content)
        assert folder.load("gate") == {}
        assert "camera-gate.json.damaged" in caplog.text
        assert (tmp_path / "camera-gate.json.damaged").read_bytes() == content
        folder.save("gate", {"count": 1})
        assert folder.load("gate") == {"count": 1}


def test_one_process_at_a_time(tmp_path):
    program = "import sys\nfrom pathlib import Path\nfrom pumpseg.watch.state import StateFolder\n"
    program += "StateFolder(Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with StateFolder(tmp_path):
        refused = subprocess.run(command, capture_output=True, text=True)
        assert "another process uses" in refused.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot write into"):
        StateFolder(tmp_path / "file" / "state")
