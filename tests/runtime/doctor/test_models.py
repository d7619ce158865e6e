"""The shipped models against stored results, and files that are broken."""

import copy
import json
import shutil

import pytest

from pumpseg.doctor import models
from pumpseg.doctor.finding import FAULT, OK
from pumpseg.inference import model_file

STORED = json.loads(models.STORED.read_text(encoding="utf-8"))


def test_the_shipped_models_find_what_was_stored():
    findings = models.check_models()
    assert [finding.topic for finding in findings] == [f"model {name}" for name in STORED]
    wrong = [finding for finding in findings if finding.status != OK]
    assert not wrong, f"{wrong}: after a model has changed, run python tests/runtime/doctor/store_results.py"
    assert all(len(stored) >= 4 for stored in STORED.values())


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone"])
def test_a_broken_model_file_is_a_fault(damage, tmp_path, monkeypatch):
    shutil.copytree(model_file.MODELS_FOLDER, tmp_path / "models")
    broken = tmp_path / "models" / "fast.onnx"
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[: 100_000 if damage == "truncated" else 0])
    monkeypatch.setattr(model_file, "MODELS_FOLDER", tmp_path / "models")
    monkeypatch.setattr(models, "NAMES", ("fast-fp32", "fast-int8"))
    monkeypatch.setattr(models, "reinstall_command", lambda: "pip install it again")
    broken_one, whole = models.try_models()
    assert (broken_one.status, whole.status) == (FAULT, OK)
    assert broken_one.mend == "pip install it again"
    assert broken_one.text.count("\n") == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda found: found.clear(), "does not find the pumpkin at"),
        (lambda found: found[0].update(box=[0, 0, 9, 9]), "does not find the pumpkin at"),
        (lambda found: found[0].update(score=0.5), "scores the pumpkin at"),
        (lambda found: found[0].update(area=9), "a mask of 9 pixels"),
        (lambda found: found[0].update(score=found[0]["score"] - 0.01), ""),
    ],
)
def test_other_results_are_a_difference(change, text):
    found = copy.deepcopy(STORED["fast-fp32"])
    change(found)
    assert models.difference(found, STORED["fast-fp32"]).find(text) >= 0
    assert bool(models.difference(found, STORED["fast-fp32"])) == bool(text)
