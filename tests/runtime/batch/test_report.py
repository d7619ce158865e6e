from pathlib import Path

from pumpseg.batch.report import batch_table
from pumpseg.batch.run import DONE, FAILED, SKIPPED, STOPPED, Outcome
from pumpseg.video import Summary


def summary(frames):
    return Summary(frames, 7, 2.0, 0, 0, 0, False, {})


def test_a_row_for_every_input_and_a_line_of_totals():
    outcomes = [
        Outcome(Path("a.mp4"), DONE, 20, 7, summary(20)),
        Outcome(Path("b.png"), SKIPPED, 1, 2),
        Outcome(Path("long/c.mp4"), FAILED, error="long/c.mp4 is cut short"),
        Outcome(Path("d.mp4"), STOPPED, 5, 7, summary(5)),
        Outcome(Path("e.mp4"), STOPPED),
    ]
    assert batch_table(outcomes).splitlines() == [
        "input       status   frames  instances   fps",
        "a.mp4       done         20          7  10.0",
        "b.png       skipped       1          2",
        "long/c.mp4  failed",
        "d.mp4       stopped       5          7   2.5",
        "e.mp4       stopped",
        "failed: long/c.mp4 is cut short",
        "5 inputs: 1 done, 1 skipped, 1 failed, 2 stopped; 26 frames, 16 instances",
    ]


def test_of_many_inputs_only_those_that_failed_have_a_row():
    outcomes = [Outcome(Path(f"{i}.png"), DONE, 1, 0, summary(1)) for i in range(50)]
    assert batch_table(outcomes) == "50 inputs: 50 done; 50 frames, 0 instances"
    outcomes[3] = Outcome(Path("3.png"), FAILED, error="3.png is damaged")
    lines = batch_table(outcomes).splitlines()
    assert [line.split()[0] for line in lines] == ["input", "3.png", "failed:", "50"]
