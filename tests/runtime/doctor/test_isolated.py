"""A check that crashes or hangs is a finding, and the doctor goes on."""

import pytest

from pumpseg.doctor.finding import FAULT
from pumpseg.doctor.isolated import isolated


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ("os:abort", "crashed (SIGABRT): "),
        ("signal:pause", "did not answer within 1 s"),
        ("builtins:input", "failed with exit code 1: EOFError"),
        ("no_such_module:check", "failed with exit code 1: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_check_that_does_not_answer_is_a_fault(check, text):
    (finding,) = isolated("x", check, seconds=1 if "pause" in check else 60)
    assert (finding.topic, finding.status) == ("x", FAULT)
    assert finding.text.startswith(text)


def test_findings_come_back_and_modules_of_the_current_folder_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('wrong json')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    topics = [finding.topic for finding in isolated("x", "pumpseg.doctor.system:check_system")]
    assert topics == ["system", "python", "processor", "memory"]
