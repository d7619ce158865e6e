"""What --check prints."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pumpseg.watch.check import check_classes, described
from pumpseg.watch.config import ConfigError, parse_config

TEXT = """
[[camera]]
name = "gate"
source = "rtsp://user:secret@camera.local/stream"
rotate = 90
fps = 5.0
hours = ["06:00-20:00"]
[[camera.zone]]
name = "field"
polygon = [[0, 0], [1, 0], [1, 1]]
classes = ["pumpkin"]
[[camera.line]]
name = "exit"
points = [[0, 0], [1, 1]]
[[rule]]
name = "crowd"
when = "count(field) >= 3 for 5 s"
[sinks.blur]
classes = ["pumpkin"]
[sinks.webhook]
url = "https://user:secret@home.local/a/hook?key=secret"
secret = "secret"
[sinks.jsonl]
path = "events.jsonl"
[page]
"""


def test_everything_is_named_and_no_secret():
    config = parse_config(TEXT, Path("/etc/cameras.toml"), {})
    segmenter = SimpleNamespace(path=Path("fast.onnx"), provider="cpu", class_names=("pumpkin",))
    text = "\n".join(described(config, segmenter))
    assert "secret" not in text
    assert text.splitlines() == [
        "model fast.onnx on cpu, classes: pumpkin",
        "1 camera",
        "  gate: rtsp://camera.local/stream, at most 5 fps, rotated by 90 degrees, 06:00-20:00",
        "    zone field: 3 corners, pumpkin",
        "    line exit: all classes",
        "    rule crowd: count(field) >= 3 for 5 s, at most every 60 s",
        "events to /etc/events.jsonl",
        "events to https://home.local/.../hook, signed",
        "page on 127.0.0.1:8000",
        "state in /etc/pumpseg-state",
    ]


def test_classes_that_the_model_lacks_are_refused():
    config = parse_config(
        TEXT.replace('[sinks.blur]\nclasses = ["pumpkin"]', '[sinks.blur]\nclasses = ["person"]'),
        Path("/etc/cameras.toml"),
        {},
    )
    check_classes(config, ["pumpkin", "person"], Path("x"))
    with pytest.raises(ConfigError) as caught:
        check_classes(config, ["gourd"], Path("cameras.toml"))
    assert caught.value.problems == (
        "cameras.toml: zone field of camera gate: the model has no class pumpkin: there are gourd",
        "cameras.toml: sinks.blur: the model has no class person: there are gourd",
    )
