import pytest

from pumpseg.atomic_file import complete_file
from pumpseg.cli.command import FAILED, INTERRUPTED, USAGE_ERROR, CommandParser, run_command, when_interrupted
from pumpseg.errors import PumpsegError, SinkError


def failing(error):
    def action():
        raise error

    return action


def test_every_end_has_its_exit_code(capsys):
    assert run_command("x", lambda: None) == 0
    assert run_command("x", lambda: FAILED) == 1
    assert run_command("x", failing(PumpsegError("no such thing"))) == USAGE_ERROR
    assert run_command("x", failing(KeyboardInterrupt())) == INTERRUPTED
    assert capsys.readouterr().err == "x: error: no such thing\nx: interrupted\n"
    with pytest.raises(ZeroDivisionError):
        run_command("x", failing(ZeroDivisionError()))


def test_an_interruption_says_what_became_of_the_work(capsys):
    def action():
        with when_interrupted("interrupted, all is lost"):
            raise KeyboardInterrupt

    assert run_command("x", action) == INTERRUPTED
    assert capsys.readouterr().err == "x: interrupted, all is lost\n"


def test_help_shows_defaults_once(capsys):
    parser = CommandParser("x")
    parser.add_argument("--a", default=3, help="first")
    parser.add_argument("--b", default=4, help="second (default: a few)")
    parser.add_argument("--c", action="store_true", help="third")
    parser.add_argument("--d", help="fourth")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "first (default 3)" in shown
    assert shown.count("default") == 2


def test_a_file_has_its_name_when_it_is_complete(tmp_path):
    target = tmp_path / "a.txt"
    with complete_file(target) as path:
        path.write_text("new", encoding="utf-8")
        assert not target.exists()
        assert path.suffix == ".txt"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(ZeroDivisionError), complete_file(target):
        raise ZeroDivisionError
    with pytest.raises(SinkError, match=r"cannot write .*a\.txt: No space left on device"), complete_file(target):
        raise OSError(28, "No space left on device")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(SinkError, match="No such file"), complete_file(tmp_path / "none" / "a.txt"):
        pass
