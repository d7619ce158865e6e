"""The fault run as a command: one kind of fault, its table, its JSON and its exit code."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run(load_script):
    pytest.importorskip("onnx", reason='needs pip install "pumpseg[export]"')
    return load_script("run")


@pytest.fixture(scope="module")
def commands(load_script):
    return load_script("commands")


def kind(commands, problems):
    def faults(count, rng, work, warm):
        for number in range(count):
            with commands.emptied(work / f"case-{number}") as folder:
                (folder / "input").touch()
                commands.errors_of(folder).write_text("what it said")
                yield commands.Case("a.mp4", "cut", commands.Ended(2, 0.5, "what it said"), problems, folder)

    return faults


def test_a_fault_that_went_wrong_is_told_and_kept(run, commands, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "KINDS", {"media": (kind(commands, ["a traceback"]), 3)})
    assert run.main(["--only", "media", "--json", str(tmp_path / "o.json"), "--keep", str(tmp_path / "kept")]) == 1
    printed = capsys.readouterr()
    assert "| media | a.mp4 | 3 | 2: 3 | 0.5 s | 3 |" in printed.out
    assert printed.err.count("media: a.mp4: cut: a traceback") == 3
    cases = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["media"]
    assert [case["problems"] for case in cases] == [["a traceback"]] * 3
    assert sorted(path.name for path in (tmp_path / "kept" / "media-3").iterdir()) == ["input", "stderr.txt"]


def test_no_problem_is_exit_code_0(run, commands, monkeypatch, capsys):
    monkeypatch.setattr(run, "KINDS", {"media": (kind(commands, []), 3)})
    assert run.main(["--only", "media", "--count", "1"]) == 0
    assert "| media | a.mp4 | 1 | 2: 1 | 0.5 s | 0 |" in capsys.readouterr().out


def test_every_script_has_a_usage_line(run):
    for name in ("run", "fuzz"):
        text = Path(run.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert f"    python benchmarks/faults/{name}.py" in text.split('"""')[1]
