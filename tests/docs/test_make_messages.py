"""The lists of messages on the page Troubleshooting."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_messages():
    spec = importlib.util.spec_from_file_location("make_messages", ROOT / "docs" / "make_messages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_message_is_on_the_page(make_messages):
    written = make_messages.PAGE.read_text(encoding="utf-8")
    assert written == make_messages.page(), "run python docs/make_messages.py"
    assert "\nno such file or folder: …\n" in written


def test_messages_are_found_however_an_error_is_made(make_messages):
    source = """
def read(path, options, verbose):
    if not path:
        raise SourceError("the name is empty")
    if path.is_dir():
        return SourceError(f"{path} is a folder: name {options!r}")
    message = f"no such file: {path}" if verbose else "no such file at all"
    refuse(options, "--limit does not go with {}".format(path))
    log.error("%s is lost", path)
    print("not an error")
    raise SourceError(message)
"""
    assert set(make_messages.messages_of(source)) == {
        "the name is empty",
        "… is a folder: name …",
        "no such file: …",
        "no such file at all",
        "--limit does not go with …",
        "… is lost",
    }


def test_a_file_whose_messages_no_list_takes_is_named(make_messages, tmp_path, monkeypatch):
    page = tmp_path / "troubleshooting.md"
    page.write_text("<!-- messages: runtime train export -->\n<!-- end of messages -->\n", encoding="utf-8")
    monkeypatch.setattr(make_messages, "PAGE", page)
    with pytest.raises(ValueError, match="benchmarks/pumpseg_bench/"):
        make_messages.page()
