import shutil
import subprocess

import pytest

from pumpseg.doctor import system
from pumpseg.doctor.finding import FAULT, NOTE, OK


def by_topic(findings):
    return {finding.topic: finding for finding in findings}


def test_the_machine_is_described():
    findings = by_topic(system.check_system())
    assert all(finding.text for finding in findings.values())
    assert findings["python"].text.startswith("CPython 3.")
    assert "cores for this process" in findings["processor"].text
    assert findings["memory"].text.endswith("GB")


def test_little_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(system, "LITTLE_MEMORY", 2**60)
    memory = by_topic(system.check_system())["memory"]
    assert memory.status == NOTE
    assert "--tiles" in memory.mend


def test_folders_with_room_are_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [finding.status for finding in system.check_disks()] == [OK, OK]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", str(folder)], capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_a_fault_and_another_folder_mends_it(full_disk, tmp_path, monkeypatch):
    monkeypatch.chdir(full_disk)
    monkeypatch.setenv("TMPDIR", str(full_disk))
    here, temporary = system.check_disks()
    assert (here.status, temporary.status) == (FAULT, FAULT)
    assert "No space left on device" in here.text
    assert here.mend.startswith("change to a folder that has room")
    assert temporary.mend.startswith("set TMPDIR to a folder that has room")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert [finding.status for finding in system.check_disks()] == [OK, OK]


def test_a_nearly_full_disk_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(system, "LITTLE_ROOM", 2**60)
    assert "MB are free" in system.check_disks()[0].text


def test_a_folder_that_is_gone_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert "cannot be written (No such file or directory)" in system.check_disks()[1].text
