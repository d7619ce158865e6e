"""Output that goes nowhere: a full disk, a closed terminal, a reader that left, an encoding that lacks characters."""

import io
import os
import sys

import pytest

from pumpseg.cli.command import run_command
from pumpseg.cli.streams import BestEffortStream, best_effort_streams
from pumpseg.cli.video import main


def opened(kind):
    """A text stream that goes nowhere."""
    if kind == "full disk":
        if not os.path.exists("/dev/full"):  # noqa: PTH110
            pytest.skip("Linux has /dev/full")
        return open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123
    if kind == "closed terminal":
        reader, writer = os.openpty()
    else:
        reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


@pytest.fixture(params=["full disk", "closed terminal", "reader that left"])
def nowhere(request):
    stream = opened(request.param)
    yield stream
    stream.close()


def test_what_cannot_be_written_is_dropped(nowhere):
    stream = BestEffortStream(nowhere)
    assert stream.failure() is None
    print("a line", file=stream, flush=True)
    print("another", file=stream)
    assert stream.failure()
    stream.release()


def test_results_for_standard_output_that_do_not_arrive_are_an_error(nowhere, monkeypatch, capsys):
    done = []

    def action():
        print("a table")
        done.append(True)

    monkeypatch.setattr(sys, "stdout", nowhere)
    assert run_command("pumpseg-x", action) == 1
    assert done
    assert capsys.readouterr().err.startswith("pumpseg-x: error: cannot write to standard output: ")


def test_messages_that_do_not_arrive_are_no_error(nowhere, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", nowhere)
    assert run_command("pumpseg-x", lambda: print("a note", file=sys.stderr) or print("a result")) == 0
    assert capsys.readouterr().out == "a result\n"


def test_closed_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run_command("pumpseg-x", lambda: print("a note", file=sys.stderr)) == 0
    assert run_command("pumpseg-x", lambda: print("a result")) == 1
    with best_effort_streams() as stdout:
        assert not stdout.isatty()


def test_help_that_does_not_arrive(nowhere, monkeypatch, capsys):
    def action():
        print("usage")
        raise SystemExit(0)

    monkeypatch.setattr(sys, "stdout", nowhere)
    assert run_command("pumpseg-x", action) == 1
    assert "cannot write to standard output" in capsys.readouterr().err


def test_what_an_encoding_lacks_is_escaped(monkeypatch):
    written = io.BytesIO()
    stream = BestEffortStream(io.TextIOWrapper(written, encoding="cp1252"))
    stream.writelines(["Kürbis ", "南瓜 \udce9\n"])
    stream.flush()
    assert written.getvalue().decode("cp1252") == "Kürbis \\u5357\\u74dc \\udce9\n"
    assert (stream.encoding, stream.failure()) == ("cp1252", None)


@pytest.mark.parametrize(
    ("outputs", "kept"),
    [
        (["--save", "out/one.mp4", "--json", "out/one.jsonl"], ["one.jsonl", "one.mp4"]),
        (["--save-dir", "out", "--json"], ["clip.mp4", "clip.mp4.jsonl", "manifest.jsonl"]),
    ],
)
def test_outputs_are_kept_when_nobody_reads_the_messages(
    nowhere, outputs, kept, clip, model_path, tmp_path, monkeypatch
):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stderr", nowhere)
    assert main([str(clip), "--no-show", "--model", str(model_path), *outputs]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == kept
