import os
import subprocess
import sys

from pumpseg.file_lock import is_abandoned, lock_file

HOLD = "import sys; from pathlib import Path; from pumpseg.file_lock import lock_file; lock_file(Path(sys.argv[1])); "


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    file = lock_file(path, "me")
    assert path.read_text(encoding="utf-8") == "me"
    assert lock_file(path) is None
    assert not is_abandoned(path)
    os.close(file)
    assert is_abandoned(path)
    again = lock_file(path, "I")
    assert path.read_text(encoding="utf-8") == "I"
    os.close(again)
    assert not is_abandoned(tmp_path / "none")


def test_a_killed_process_holds_nothing(tmp_path):
    path = tmp_path / "lock"
    line = [sys.executable, "-c", HOLD + "print(flush=True); sys.stdin.read()", str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert lock_file(path) is None
        process.kill()
        process.wait()
    os.close(lock_file(path))
