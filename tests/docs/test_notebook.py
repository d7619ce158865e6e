"""The notebook of docs/examples; on request it is run, which takes three minutes."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "train_a_class.ipynb"


@pytest.mark.notebook
def test_the_notebook_trains_a_model_that_detects_something(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="needs pip install nbclient ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [text for text in printed if text.startswith("Instances(")]
    assert found and not found[0].startswith("Instances(0")


def test_the_stored_outputs_are_small():
    assert NOTEBOOK.stat().st_size < 500_000
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert any(cell.get("outputs") for cell in cells)
