"""Damaged texts against the parsers: each must give a value, or an error that names what is wrong.

    python benchmarks/faults/fuzz.py                                  # all parsers, 60 seconds each
    python benchmarks/faults/fuzz.py --only coco yolo --seconds 600
    pip install atheris && python benchmarks/faults/fuzz.py --only rle --atheris --seconds 600

Each parser starts from the valid texts in tests/benchmarks/faults/corpus/PARSER. hypothesis damages bytes and JSON
values; atheris follows the branches of the code. The exit code is 1 if an error of another kind came out. The tests
run the same parsers for a moment.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from damage import damage_bytes, damage_json

from pumpseg.batch.manifest import Manifest
from pumpseg.cli import arguments
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.errors import PumpsegError
from pumpseg.inference.letterbox import Rule, place
from pumpseg.inference.model_file import METADATA_KEY, parse_metadata
from pumpseg.masks import rle
from pumpseg.redaction import redacted, redacted_text
from pumpseg.video.sinks.json import CocoIds
from pumpseg.video.sources.container import is_url
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.zones import Line, Zone
from pumpseg_train.cli.command import class_names
from pumpseg_train.convert import coco, labelme, via, yolo
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.openimages.tables import find_classes, read_boxes, read_masks
from pumpseg_train.progress import Progress

CORPUS = Path(__file__).parents[2] / "tests" / "benchmarks" / "faults" / "corpus"


@dataclass(frozen=True)
class Parser:
    """parse: takes a text and an empty folder. refusals: the errors that it may raise."""

    parse: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = (PumpsegError,)

    def check(self, data: bytes) -> None:
        """Raises what is not a refusal."""
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(*self.refusals):
            self.parse(data, Path(folder))


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def parse(data: bytes, folder: Path) -> object:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return read(folder)

    return parse


@functools.cache
def _photo() -> bytes:
    return cv2.imencode(".png", np.zeros((8, 12, 3), np.uint8))[1].tobytes()


def _with_photo(name: str, read: Callable[[Path], object], photo: str) -> Callable[[bytes, Path], object]:
    def with_photo(folder: Path) -> object:
        (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        (folder / photo).write_bytes(_photo())
        return read(folder)

    return _in_file(name, with_photo)


def _text(*parsers: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    def parse(data: bytes, _folder: Path) -> None:
        for parser in parsers:
            with contextlib.suppress(argparse.ArgumentTypeError, ValueError):
                parser(data.decode("utf-8", "surrogateescape"))

    return parse


def _settings(data: bytes, folder: Path) -> None:
    from pumpseg_train.training.run import make_settings, read_classes, read_settings, read_toml

    (folder / "settings.toml").write_bytes(data)
    make_settings(read_toml(folder / "settings.toml"))
    read_settings(folder)
    read_classes(folder)


def _assignment(data: bytes, _folder: Path) -> None:
    from pumpseg_train.cli.train import main

    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(None):
        main(["--out", "/nonexistent", "--set", data.decode("utf-8", "surrogateescape")])


def _watch(data: bytes, folder: Path) -> None:
    from pumpseg.watch.config import parse_config

    parse_config(data.decode("utf-8", "replace"), folder / "watch.toml", {})


def _metadata(data: bytes, folder: Path) -> None:
    info = parse_metadata({METADATA_KEY: data.decode("utf-8", "surrogateescape")}, folder / "model.onnx")
    if max(info.input_size) <= 4096:
        place((480, 640), info.input_size, info.letterbox)


def _rule(data: bytes, _folder: Path) -> None:
    values = json.loads(data)
    for size in ((1, 1), (480, 640), (10_000, 3)):
        place(size, (384, 384), Rule(**values))


def _rle(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    counts = rle.string_to_counts(text)
    if (counts >= 0).all():
        assert rle.string_to_counts(rle.counts_to_string(counts)).tolist() == counts.tolist()
    rle.decode({"size": [8, 12], "counts": text})


def _url(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    is_url(text), redacted(text), redacted_text(text)
    word = "".join(filter(str.isalnum, text)) or "x"
    url = f"rtsp://me:{text}-{word}-secret@camera/{text}?{text}"
    assert f"-{word}-secret" not in redacted(url), redacted(url)


def _tables(folder: Path) -> None:
    for read in (read_boxes, read_masks):
        with contextlib.suppress(PumpsegError):
            read(folder / "table.csv", ["/m/0", "/m/05zsy"], Progress())
    find_classes(folder / "table.csv", ["Pumpkin"])


def _yolo_yaml(folder: Path) -> None:
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5", encoding="utf-8")
    yolo.read(folder, "train", [])


PARSERS = {
    "arguments": Parser(
        _text(
            *(arguments.size, arguments.size_or_side, arguments.count, arguments.seed, arguments.share),
            *(arguments.positive, arguments.seconds, arguments.path, arguments.comma_separated(arguments.count)),
            *(PageAddress.parse, Zone.parse, Line.parse),
        )
    ),
    "url": Parser(_url),
    "rle": Parser(_rle, (ValueError,)),
    "rule": Parser(_rule, (ValueError, TypeError)),
    "metadata": Parser(_metadata),
    "manifest": Parser(_in_file("manifest.jsonl", Manifest)),
    "coco-truth": Parser(_in_file("truth.json", lambda folder: CocoIds.read(folder / "truth.json"))),
    "coco": Parser(_with_photo("annotations.json", read_dataset, "images/a.png")),
    "coco-convert": Parser(
        _with_photo("annotations.json", lambda folder: coco.read(folder, "train", []), "images/a.png")
    ),
    "via": Parser(_with_photo("via_region_data.json", lambda folder: via.read(folder, "train", ["x"]), "a.png")),
    "labelme": Parser(_with_photo("a.json", lambda folder: labelme.read(folder, "train", [], folder), "a.png")),
    "yolo": Parser(_with_photo("labels/a.txt", lambda folder: yolo.read(folder, "train", ["x", "y"]), "images/a.png")),
    "yolo-yaml": Parser(_with_photo("data.yaml", _yolo_yaml, "images/train/a.png")),
    "classes": Parser(_in_file("names.txt", lambda folder: class_names([str(folder / "names.txt")]))),
    "tables": Parser(_in_file("table.csv", _tables)),
    "watch": Parser(_watch),
    "settings": Parser(_settings),
    "set": Parser(_assignment),
}
NEED_KERAS = ("settings", "set")


def seeds(name: str) -> list[bytes]:
    """The valid texts that a parser starts from."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def damaged(known: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the texts, with damage to its values if it is JSON, or to its bytes."""
    data = known[rng.randrange(len(known))]
    if rng.random() < 0.6:
        with contextlib.suppress(ValueError):
            return json.dumps(damage_json(json.loads(data), rng)[0]).encode()
    return damage_bytes(data, rng)[0]


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARSERS, default=list(PARSERS), metavar="PARSER")
    parser.add_argument("--seconds", type=arguments.positive, default=60.0, metavar="S", help="for each parser")
    parser.add_argument("--atheris", action="store_true", help="of one parser, by the branches of its code")
    chosen = parser.parse_args(argv)
    return run_command("fuzz", lambda: _fuzz(chosen))


def _fuzz(chosen: argparse.Namespace) -> int:
    if chosen.atheris:
        if len(chosen.only) != 1:
            raise PumpsegError("--atheris takes one parser: name it with --only")
        return int(_with_atheris(chosen.only[0], chosen.seconds) != 0)
    found = 0
    for name in chosen.only:
        tried, problem = _with_hypothesis(name, chosen.seconds)
        found += problem is not None
        print(f"{name}: {tried} texts, {problem or 'no fault'}", flush=True)
    return int(found > 0)


def _with_hypothesis(name: str, seconds: float) -> tuple[int, str | None]:
    """How many texts were tried, and the first fault."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    known, parser = seeds(name), PARSERS[name]
    until, tried = time.monotonic() + seconds, 0

    @settings(
        max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False,
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(st.randoms(use_true_random=True), st.binary(max_size=60))
    def try_some(rng: random.Random, raw: bytes) -> None:
        nonlocal tried
        tried += 1
        data = raw if rng.random() < 0.1 else damaged(known, rng)
        try:
            parser.check(data)
        except Exception as error:
            error.add_note(f"text: {data[:400]!r}")
            raise

    while time.monotonic() < until:
        try:
            try_some()
        except Exception as error:
            return tried, f"{type(error).__name__}: {error} {' '.join(error.__notes__)[:600]}"
    return tried, None


def _with_atheris(name: str, seconds: float) -> int:
    """The exit code of libFuzzer, in a process of its own, since it must be there before the imports."""
    code = f"""import atheris
with atheris.instrument_imports(include=["pumpseg", "pumpseg_train", "json", "tomllib"]):
    import fuzz
fuzz.follow_branches({name!r}, {round(seconds)})"""
    return subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode


def follow_branches(name: str, seconds: int) -> None:
    """Does not return: libFuzzer ends the process, with another exit code than 0 after a fault."""
    import atheris

    with _copied(CORPUS / name) as folder:
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=4096"]
        atheris.Setup(["fuzz", str(folder), *limits], PARSERS[name].check)
        atheris.Fuzz()


@contextlib.contextmanager
def _copied(folder: Path) -> Iterator[Path]:
    """A copy, which libFuzzer adds its own finds to."""
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(shutil.copytree(folder, Path(temporary) / "corpus"))


if __name__ == "__main__":
    sys.exit(main())
