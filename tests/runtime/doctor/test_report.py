import socket
import sys
from pathlib import Path

import pytest

from pumpseg.doctor import report
from pumpseg.doctor.finding import FAULT, NOTE, OK, Finding


@pytest.fixture
def sections(monkeypatch):
    def set_to(*findings):
        monkeypatch.setattr(report, "SECTIONS", {"all": (lambda: list(findings),)})
        return dict(report.examine())

    return set_to


def test_the_report_is_free_of_private_words(sections, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/jane.doe")
    monkeypatch.setenv("LOGNAME", "jane.doe")
    monkeypatch.setattr(socket, "gethostname", lambda: "acme-cam-7.acme.example")
    monkeypatch.chdir(tmp_path)
    private = [
        f"{Path.home()}/films/x.mp4 and {tmp_path}/y.mp4",
        f"{sys.prefix}/lib/libx.so",
        "/media/jane.doe/disk/model.onnx",
        "jane.doe@acme-cam-7",
        "//acme-cam-7.acme.example/share",
    ]
    (found,) = sections(*(Finding("x", FAULT, text, text) for text in private)).values()
    for finding in found:
        for word in ("jane", "acme-cam-7", str(tmp_path), sys.prefix):
            assert word not in finding.text + finding.mend
    assert found[0].text == "~/films/x.mp4 and <here>/y.mp4"


def test_a_user_with_the_name_of_a_thing_leaves_the_text_readable(sections, monkeypatch):
    monkeypatch.setenv("LOGNAME", "video")
    (found,) = sections(Finding("video", OK, "a video of /home/video/x")).values()
    assert found[0].text == "a video of /home/<private>/x"


def test_text_verdict_and_json_agree(sections):
    good, bad = Finding("a", OK, "fine"), Finding("b", FAULT, "broken", "pip install b")
    fine = sections(good, Finding("c", NOTE, "so so"))
    assert (report.verdict(fine), report.faults(fine)) == ("nothing is wrong", [])
    wrong = sections(good, bad)
    assert report.verdict(wrong).startswith("1 thing is wrong")
    assert report.section_text("all", wrong["all"]) == (
        "all\n  ok    a: fine\n  WRONG b: broken\n        -> pip install b"
    )
    assert report.as_json(wrong)["faults"] == 1
    assert report.as_json(wrong)["sections"]["all"][1] == bad.to_json()
