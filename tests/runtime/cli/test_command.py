import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.atomic_file import complete_file
from pumpseg.cli.command import FAILED, INTERRUPTED, USAGE_ERROR, parse_size, run_command
from pumpseg.errors import PumpsegError, SinkError


def failing(error):
    def action():
        raise error

    return action


def test_every_end_has_its_exit_code(capsys):
    assert run_command("x", lambda: None) == 0
    assert run_command("x", lambda: FAILED) == 1
    assert run_command("x", failing(PumpsegError("no such thing"))) == USAGE_ERROR
    assert run_command("x", failing(KeyboardInterrupt()), "interrupted, all is lost") == INTERRUPTED
    assert capsys.readouterr().err == "x: error: no such thing\nx: interrupted, all is lost\n"
    with pytest.raises(ZeroDivisionError):
        run_command("x", failing(ZeroDivisionError()))


@given(st.integers(1, 99999), st.integers(1, 99999), st.sampled_from("xX"))
def test_sizes(width, height, cross):
    assert parse_size("--size", f"{width}{cross}{height}") == (width, height)


@pytest.mark.parametrize(
    "text", ["", "640", "640x", "x480", "640x480x3", "-640x480", "6.4x4", "0x480", "640x0", "a x b"]
)
def test_what_is_no_size(text):
    with pytest.raises(PumpsegError, match=r"^--size .*: expected WIDTHxHEIGHT in pixels"):
        parse_size("--size", text)


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
