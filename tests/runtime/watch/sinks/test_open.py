"""The sinks that a configuration names."""

from pathlib import Path

import pytest

from pumpseg.errors import PumpsegError
from pumpseg.watch.config import parse_config
from pumpseg.watch.sinks.open import open_event_sinks

CAMERA = '[[camera]]\nname = "a"\nsource = "demo"\n'


def sinks_of(text, folder):
    return parse_config(CAMERA + text, folder / "cameras.toml", {}).sinks


def test_what_is_named_is_opened(tmp_path):
    text = """
[sinks.jsonl]
path = "events.jsonl"
[sinks.snapshots]
folder = "snapshots"
[sinks.clips]
folder = "clips"
[sinks.webhook]
url = "http://127.0.0.1:9/hook"
secret = "x"
[sinks.mqtt]
host = "127.0.0.1"
port = 9
"""
    sinks = open_event_sinks(sinks_of(text, tmp_path), tmp_path / "state", [])
    try:
        names = [sink.name.replace(str(tmp_path), "") for sink in sinks]
        assert names == [
            "JSON lines /events.jsonl",
            "snapshots /snapshots",
            "webhook 127.0.0.1:9",
            "MQTT 127.0.0.1:9",
            "clips /clips",
        ]
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["mqtt", "webhook"]
    finally:
        for sink in sinks:
            sink.close()
    assert open_event_sinks(sinks_of("", tmp_path), tmp_path, []) == []


def test_what_cannot_be_opened_closes_the_others(tmp_path):
    text = '[sinks.jsonl]\npath = "events.jsonl"\n[sinks.webhook]\nurl = "http://user:secret@home.local/"\n'
    for _ in range(2):  # the second time the file is free again
        with pytest.raises(PumpsegError, match="has a user in it"):
            open_event_sinks(sinks_of(text, tmp_path), tmp_path / "state", [])
    assert Path(tmp_path / "events.jsonl").exists()
