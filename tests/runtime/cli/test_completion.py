"""The script in real shells: what Tab makes of the beginning of a line."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from pumpseg.cli import main
from pumpseg.cli.completion import script

SETUP = {
    "bash": "source '{0}'",
    "zsh": "autoload -U compinit; compinit -u -D; eval \"$(<'{0}')\"",
    "fish": "source '{0}'",
}
START = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config", "-i"]}
each_shell = pytest.mark.parametrize("shell", SETUP)


@pytest.fixture(scope="module")
def script_of(tmp_path_factory):
    """The file with the script for a shell, printed by the command as a user would."""
    folder = tmp_path_factory.mktemp("completion")

    def written(shell):
        path = folder / shell
        if not path.exists():
            command = [sys.executable, "-m", "pumpseg", "completion", shell]
            path.write_bytes(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        return path

    return written


class Terminal:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, shell, folder):
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.environ |= {"TERM": "dumb", "HOME": str(folder), "PS1": "> "}
            os.execvp(START[shell][0], START[shell])

    def type(self, text):
        os.write(self._file, text.encode())

    def wait_for(self, text, seconds=60):
        """What was printed until `text` came."""
        shown, end = "", time.monotonic() + seconds
        while text not in shown:
            ready = select.select([self._file], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"{text!r} did not come: {shown!r}"
            shown += os.read(self._file, 65536).decode(errors="replace")
        return shown

    def close(self):
        os.close(self._file)
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


@pytest.fixture
def terminal(tmp_path, script_of):
    opened = []

    def open_shell(shell):
        if shutil.which(shell) is None:
            pytest.skip(f"needs {shell}")
        folder = tmp_path / shell
        folder.mkdir()
        (folder / "patch_of_pumpkins.mp4").touch()
        opened.append(Terminal(shell, folder))
        opened[-1].type(SETUP[shell].format(script_of(shell)) + "; echo lo''aded\n")
        opened[-1].wait_for("loaded")
        return opened[-1]

    yield open_shell
    for each in opened:
        each.close()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_commands_options_choices_and_files(terminal, shell):
    screen = terminal(shell)
    for begun, completed in (
        ("pumpseg doc", "doctor"),
        ("pumpseg data chec", "check"),
        ("pumpseg video --save-cr", "--save-crops"),
        ("pumpseg-video --color tr", "track"),
        ("pumpseg-data conv", "convert"),
        ("pumpseg-video patch_", "patch_of_pumpkins.mp4"),
    ):
        screen.type(f"{begun}\t")
        missing = completed[len(begun.split()[-1]) :]
        screen.wait_for(missing)
        screen.type("\x15")  # clears the line


def test_fish_completes_commands_options_choices_and_files(script_of, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("needs fish")
    (tmp_path / "patch_of_pumpkins.mp4").touch()
    lines = {
        "pumpseg doc": "doctor",
        "pumpseg data chec": "check",
        "pumpseg video --save-cr": "--save-crops",
        "pumpseg-video --color tr": "track",
        "pumpseg-video patch_": "patch_of_pumpkins.mp4",
    }
    asked = "; ".join(f"complete -C '{line}'; echo" for line in lines)
    command = ["fish", "--no-config", "-c", f"source {script_of('fish')}; {asked}"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=True
    )
    for completed, answer in zip(lines.values(), done.stdout.split("\n\n"), strict=False):
        assert completed in answer


@each_shell
def test_the_script_is_one_for_all_programs(script_of, shell):
    text = script_of(shell).read_text(encoding="utf-8")
    assert all(program in text for program in ("pumpseg-video", "pumpseg-data", "pumpseg-train", "pumpseg-bench"))


def test_a_command_whose_packages_are_missing_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(main.COMMANDS, "export", main.Command("no_such_module", "pumpseg-export", ""))
    assert "pumpseg-export" not in script("bash").split()
    assert "leaving out pumpseg-export: No module named 'no_such_module'" in capsys.readouterr().err


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main.pumpseg(["completion", "csh"])
    assert ended.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err.replace("'", "")
