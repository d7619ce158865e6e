"""Every experiment says how it is used."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "experiments"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "measuring")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_a_usage_line_and_help(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert f"    python benchmarks/experiments/{name}.py" in text.split('"""')[1]
