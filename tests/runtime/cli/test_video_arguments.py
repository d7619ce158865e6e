import cv2
import pytest
from command_output import assert_error, files

from pumpseg.cli.video_arguments import parse_arguments
from pumpseg.errors import PumpsegError


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threshold", "1.5", "a number from 0 to 1"),
        ("--threshold", "x", "a number from 0 to 1"),
        ("--threads", "0", "a whole number from 1 to 1024"),
    ],
)
def test_values_out_of_range(run, clip, option, value, message):
    assert_error(run(clip, f"{option}={value}"), f"{option}: .*{message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--save-dir", "out", "--save", "out.mp4"], "exclude each other"),
        (["--save-dir", "out", "a.mp4", "--json", "b.mp4"], "--json takes no name, not b.mp4"),
        (["a.mp4", "--save-dir", "out", "--limit", "3"], "do not go with --save-dir"),
        (["a.mp4", "--jobs", "2"], "go with --save-dir"),
        (["a.mp4", "--json"], "--json needs a name, except with --save-dir"),
        (["a.mp4", "--coco-truth", "x.json"], "goes with --coco FILE"),
        (["a.mp4", "--coco", "-"], "--coco cannot go to standard output"),
        (["a.mp4", "b.mp4", "--save", "out.mp4"], "no such file or folder: a.mp4"),
        (["webcam", "b.mp4"], "webcam is not a file: only files"),
        (["webcam", "--save-dir", "out"], "webcam is not a file: only files"),
        (["a.mp4", "--camera-size", "640"], "must be WIDTHxHEIGHT"),
        (["a.mp4", "--reconnect=-1"], "at least 0"),
        (["a.mp4", "--camera-fps", "0"], "a number above 0"),
        (["a.mp4", "--codec", "mpeg4"], "invalid choice"),
        (["a.mp4", "--zone", "gate"], "--zone: a zone must be NAME=x,y,x,y,x,y,..."),
        (["a.mp4", "--zone", "gate=0,0,1,0"], "--zone: zone gate: a zone needs at least 3 corners, got 2"),
        (["a.mp4", "--line", "road=0,0,1", "--track"], "--line: line road: must be pairs of x and y, got 3 numbers"),
        (["a.mp4", "--line", "road=0,0,1,1"], "it goes with --track"),
        (["a.mp4", "--zone", "a=0,0,1,0,1,1", "--track", "--line", "a=0,0,1,1"], "two zones or lines named a"),
    ],
)
def test_options_that_do_not_go_together(run, arguments, message):
    assert_error(run(*arguments), message)
    assert files(run.folder) == []


def test_far_too_many_tiles_or_threads_are_refused(run, clip):
    assert_error(run(clip, "--tiles", "17"), "argument --tiles: must be a whole number from 1 to 16, got 17")
    assert_error(
        run(clip, "--threads", "100000"), "argument --threads: must be a whole number from 1 to 1024, got 100000"
    )


def test_an_empty_source_is_not_the_folder_one_is_in(run, square_frame):
    cv2.imwrite("a.png", square_frame)
    assert_error(run(""), "the name of the source is empty")
    assert_error(run("", "a.png"), "the name of a source is empty")


def test_defaults():
    arguments = parse_arguments(["a.mp4"])
    assert (arguments.sources, arguments.save, arguments.json, arguments.threshold) == (["a.mp4"], None, None, None)
    assert (arguments.codec, arguments.engine, arguments.color, arguments.tiles) == ("h264", "local", "auto", 1)
    assert arguments.reconnect == float("inf")


def test_names_are_left_out_in_a_batch_only():
    assert parse_arguments(["a.mp4", "--save-dir", "out", "--json"]).json is True
    with pytest.raises(PumpsegError, match="--json needs a name, except with --save-dir"):
        parse_arguments(["a.mp4", "--json"])


def test_help_shows_defaults(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "codec of saved videos (default h264)",
        "coreml, directml (default auto)",
        "forever); 0 to stop at once",
    ):
        assert text in shown
