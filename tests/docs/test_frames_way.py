"""docs/how-it-works.md names the files that a frame passes through: exactly those that are entered for every frame."""

import re
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import pumpseg
from pumpseg.cli.video import main

PACKAGE = Path(pumpseg.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "how-it-works.md"
MAX_FILES = 18


def files_of_the_page():
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(r"## A frame's way\n(.*?)\nBefore the first frame", text, re.DOTALL)[1]
    return set(re.findall(r"`([\w/]+\.py)`", section))


def calls_of(arguments):
    """How often each function of the package is entered, in any thread, by its file and name."""
    calls = Counter()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            calls[frame.f_code.co_filename, frame.f_code.co_qualname] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        assert main(arguments) == 0
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def test_the_page_names_the_files_of_a_frames_way(tmp_path):
    pytest.importorskip("trackers", reason='needs pip install "pumpseg[track]"')
    outputs = ["--save", str(tmp_path / "out.mp4"), "--json", str(tmp_path / "o.jsonl"), "--track"]
    few, many = (calls_of(["demo", *outputs, "--no-show", "--provider", "cpu", "--limit", str(n)]) for n in (4, 24))
    # Frames that are decoded ahead of the limit make the difference of 20 vary.
    per_frame = [file for (file, name), count in many.items() if count >= few[file, name] + 8]
    entered = {Path(file).relative_to(PACKAGE).as_posix() for file in per_frame}
    assert entered == files_of_the_page()
    assert len(entered) <= MAX_FILES
