import argparse
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.cli import arguments
from pumpseg.cli.arguments import (
    comma_separated,
    count,
    path,
    positive,
    seconds,
    seed,
    share,
    size,
    size_or_side,
    whole,
)


@given(st.integers(1, 10**9))
def test_counts(value):
    assert count(str(value)) == value
    assert comma_separated(count)(f"{value},2") == [value, 2]


@given(st.floats(0, 1))
def test_shares(value):
    assert share(repr(value)) == value


@given(st.integers(1, 99999), st.integers(1, 99999), st.sampled_from("xX"))
def test_sizes(width, height, cross):
    assert size(f"{width}{cross}{height}") == size_or_side(f"{width}{cross}{height}") == (width, height)
    assert size_or_side(str(width)) == (width, width)


def test_limits_belong_to_the_range():
    assert (whole(1, 16)("16"), seed("0"), share("1"), seconds("0"), seconds("inf")) == (16, 0, 1.0, 0.0, math.inf)
    assert path("a b") == Path("a b")


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (count, "0", "must be a whole number of at least 1, got 0"),
        (count, "two", "must be a whole number of at least 1, got 'two'"),
        (count, "1.5", "must be a whole number of at least 1, got '1.5'"),
        (whole(1, 16), "17", "must be a whole number from 1 to 16, got 17"),
        (seed, "-1", "must be a whole number of at least 0, got -1"),
        (share, "nan", "must be a number from 0 to 1, got nan"),
        (share, "1.5", "must be a number from 0 to 1, got 1.5"),
        (share, "x", "must be a number from 0 to 1, got 'x'"),
        (positive, "0", "must be a number above 0, got 0"),
        (positive, "inf", "must be a number above 0, got inf"),
        (seconds, "-1", "must be a number of seconds, at least 0, got -1"),
        (comma_separated(count), "1,,2", "must be a whole number of at least 1, got ''"),
        (path, "", "must name a file or folder, got an empty text"),
    ],
)
def test_a_wrong_text_is_named_with_what_it_should_be(parse, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "text", ["", "640x", "x480", "640x480x3", "-640x480", "6.4x4", "0x480", "640x0", "a x b", "６x4"]
)
def test_texts_that_are_not_sizes(text):
    for parse in (size, size_or_side):
        with pytest.raises(argparse.ArgumentTypeError, match="must be WIDTHxHEIGHT in pixels, such as 640x480, got "):
            parse(text)


def test_argparse_names_the_option(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--near", type=arguments.whole(0, 256))
    with pytest.raises(SystemExit):
        parser.parse_args(["--near", "300"])
    assert "argument --near: must be a whole number from 0 to 256, got 300" in capsys.readouterr().err
