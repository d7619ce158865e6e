"""pumpseg-data stats and check write over nothing that they read."""

import pytest

from pumpseg_train.cli.data import main


@pytest.mark.parametrize("command", ["check", "stats"])
def test_figures_and_findings_are_written_over_nothing_that_is_read(command, fruit, capsys):
    for name in ("train/annotations.json", "val/annotations.json", "val/images/0.png"):
        before = (fruit / name).read_bytes()
        assert main([command, str(fruit), "--json", str(fruit / name)]) == 2
        assert "is an input" in capsys.readouterr().err
        assert (fruit / name).read_bytes() == before


@pytest.mark.parametrize("command", ["check", "stats"])
def test_a_json_that_cannot_be_written_is_told_before_the_work(command, fruit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(f"pumpseg_train.dataset.{command}.{'check' if command == 'check' else 'statistics'}", None)
    assert main([command, str(fruit), "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "x.json: No such file" in capsys.readouterr().err
