import io

from pumpseg.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(output, total, steps):
    now = [0.0]
    progress = Progress(total, output, clock=lambda: now[0])
    for done, moment in steps:
        now[0] = moment
        progress.update(done)
    progress.clear()
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
