import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pumpseg.masks.rle import encode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
AGREEMENT = BENCHMARKS / "arm_agreement.py"


def run(*arguments):
    command = [sys.executable, str(AGREEMENT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def report(score, boxes):
    count = len(boxes)
    mask = encode(np.ones((4, 4), bool))
    found = {"boxes": boxes, "scores": [score] * count, "class_ids": [0] * count, "masks": [mask] * count}
    chosen = {"machine": "aarch64", "int8_dot_product": "asimddp", "chosen": "int8, int8: this processor has asimddp"}
    return {**chosen, "models": {"fast-fp32": [found], "fast-int8": [found]}}


@pytest.mark.parametrize(("boxes", "code"), [([[0, 0, 4, 4]], 0), ([[0, 0, 4, 4], [0, 0, 1, 1]], 1)])
def test_another_instance_is_a_disagreement(tmp_path, boxes, code):
    for name, values in (("here", report(0.75, [[0, 0, 4, 4]])), ("there", report(0.5, boxes))):
        (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    process = run("compare", tmp_path / "here.json", tmp_path / "there.json")
    assert process.returncode == code, process.stderr
    assert "aarch64: Segmenter() takes int8, int8: this processor has asimddp" in process.stdout
    assert '"score_difference": 0.25' in process.stdout


@pytest.mark.arm_emulation
def test_an_emulated_aarch64_detects_the_same(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "ARM_TESTS": "tests/runtime/inference/test_cpu.py", "PATH": path}
    process = subprocess.run(
        ["sh", str(BENCHMARKS / "arm_emulation.sh"), str(tmp_path)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "int8 dot products: asimddp" in process.stdout
    assert "aarch64: Segmenter() takes int8" in process.stdout
