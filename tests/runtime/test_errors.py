import json

import pytest

from pumpseg.errors import OptionError, ProviderError, PumpsegError, first_line, printable, require


def test_a_package_that_is_there_is_imported():
    assert require("json", extra="video") is json


def test_a_missing_package_is_named_with_the_way_to_install_it():
    message = (
        r"^no_such_package cannot be imported \(No module named 'no_such_package'\): pip install \"pumpseg\[video\]\"$"
    )
    with pytest.raises(PumpsegError, match=message):
        require("no_such_package", extra="video")


def test_a_broken_package_gives_its_first_line(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text(
        "raise ImportError('libfoo.so is missing\\nand more')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PumpsegError, match=r"cannot be imported \(libfoo.so is missing\)"):
        require("broken_package", extra="video")


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("a\nb"), "a"), (ValueError(" \n"), "ValueError"), (OptionError("x "), "x")]
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


def test_a_provider_error_ends_with_what_to_do():
    error = ProviderError("provider cuda did not load", "pip install more")
    assert str(error) == "provider cuda did not load: pip install more"
    assert (error.reason, error.advice) == ("provider cuda did not load", "pip install more")
    assert str(ProviderError("no reason is known")) == "no reason is known"


def test_text_of_others_is_printable():
    assert printable("pümpkin 南瓜") == "pümpkin 南瓜"
    assert printable("a\x1b[2Jb\n\ud800") == r"a\x1b[2Jb\n\ud800"
    assert printable("x" * 10_000) == "x" * 500 + "..."
    assert first_line(ValueError("a\x07\nb")) == r"a\x07"
