"""Damaged data sets in all formats: checked, converted, divided."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from commands import Case, WarmCommands, emptied, left_hidden
from damage import damage_bytes, damage_json

FORMATS = ("coco", "via", "labelme", "yolo", "masks", "index")
_TEXT = (".json", ".txt", ".yaml")


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` cases, all formats in turn. Of three cases one damages a photo or mask, two damage text or its values."""
    with emptied(work / "intact") as folder:
        for words in _making():
            ended = warm.run("pumpseg-data", words, folder)
            assert ended.code == 0, ended.errors
        for number in range(count):
            name = FORMATS[number % len(FORMATS)]
            with emptied(work / f"case-{number}") as case:
                shutil.copytree(folder / name, case / "labels")
                how = _damage(case / "labels", rng)
                yield from _commands(warm, case, name, how, rng)


def _making() -> Iterator[list[str]]:
    """Commands that make the same small set in each format."""
    yield ["synth", "--out", "coco", "--count", "3", "--val-count", "2", "--size", "128x96", "--workers", "1"]
    for name in FORMATS[1:]:
        yield ["convert", "coco", "--to", name, "--out", name]


def _damage(labels: Path, rng: random.Random) -> str:
    files = sorted(path for path in labels.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix in _TEXT]
    chosen = rng.choice(texts if texts and rng.random() < 0.7 else files)
    what = chosen.relative_to(labels).as_posix()
    if rng.random() < 0.05:
        chosen.unlink()
        return f"{what} removed"
    if chosen.suffix == ".json" and rng.random() < 0.7:
        changed, how = damage_json(json.loads(chosen.read_text(encoding="utf-8")), rng)
        chosen.write_text(json.dumps(changed), encoding="utf-8")
    else:
        damaged, how = damage_bytes(chosen.read_bytes(), rng)
        chosen.write_bytes(damaged)
    return f"{what}: {how}"


def _commands(warm: WarmCommands, case: Path, name: str, how: str, rng: random.Random) -> Iterator[Case]:
    classes = ["--classes", "pumpkin"] if name == "index" else []
    target = rng.choice(FORMATS)
    words = ["convert", "labels", "--from", name, "--to", target, "--out", "out", *classes]
    if name == "coco":
        words = rng.choice(
            [words, ["check", "labels", "--json", "out.json"], ["split", "labels", "--out", "out"], ["stats", "labels"]]
        )
    ended = warm.run("pumpseg-data", words, case)
    problems = ended.problems({0, 1, 2} if words[0] == "check" else {0, 2})
    out = case / "out"
    if ended.code == 2 and out.exists():
        problems.append("an output of a command that failed")
    if ended.code == 0 and words[0] == "convert" and target == "coco":
        checked = warm.run("pumpseg-data", ["check", "out"], case)
        problems += [f"check of the result: {problem}" for problem in checked.problems({0, 1})]
    yield Case(f"{name}, {words[0]}", f"{how}; {' '.join(words)}", ended, problems + left_hidden(case), case)
