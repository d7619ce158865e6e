import io
from pathlib import Path

from pumpseg.batch.run import DONE, Outcome
from pumpseg.cli.progress import BatchProgress, Progress
from pumpseg.video.sources.files import InputFile


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(output, total, steps):
    now = [0.0]
    with Progress(total, output, clock=lambda: now[0]) as progress:
        for done, moment in steps:
            now[0] = moment
            progress.update(done)
    return output.getvalue()


def test_plain_lines_come_every_few_seconds():
    text = run(io.StringIO(), 100, [(10, 1), (20, 2), (50, 5.5), (60, 6), (100, 11)])
    assert text.splitlines() == [
        "frame 50 of 100 (50%), 9.1 fps, 0:05 left",
        "frame 100 of 100 (100%), 9.1 fps, 0:00 left",
    ]


def test_a_terminal_has_one_line_that_is_taken_away():
    text = run(Terminal(), 100, [(10, 1), (20, 2)])
    assert "\n" not in text
    assert text.count("\r") == 4
    assert text.endswith("\r")


def test_an_unknown_length():
    assert run(io.StringIO(), None, [(60, 6)]) == "frame 60, 10.0 fps\n"


def test_a_batch_shows_its_inputs_and_one_in_progress():
    now, output = [0.0], io.StringIO()
    file = InputFile(Path("in/a.mp4"), Path("a.mp4"))
    with BatchProgress(2, output, clock=lambda: now[0]) as progress:
        progress.start(file, 20)
        now[0] = 5.0
        progress.frame(file, 10)
        now[0] = 10.0
        progress.end(Outcome(file.path, DONE))
    assert output.getvalue().splitlines() == [
        "0 of 2 inputs; in/a.mp4: frame 10 of 20 (50%), 2.0 fps, 0:05 left",
        "1 of 2 inputs",
    ]
