"""The TOML file: what it may hold, and how its errors read."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from pumpseg.watch.config import Config, ConfigError, json_schema, parse_config, read_config

CAMERA = '[[camera]]\nname = "a"\nsource = "demo"\n'
EXAMPLE = files("pumpseg.watch").joinpath("example.toml").read_text(encoding="utf-8")
EVERYTHING = re.sub(r"^#(?=[\w\[])", "", EXAMPLE, flags=re.MULTILINE)
SECRETS = {"CAMERA_PASSWORD": "c", "WEBHOOK_SECRET": "w", "WEBHOOK_TOKEN": "t", "MQTT_PASSWORD": "m"}


def parse(text, **environment):
    return parse_config(text, Path("/etc/cameras.toml"), environment)


def problems(text, **environment):
    with pytest.raises(ConfigError) as caught:
        parse(text, **environment)
    return [problem.removeprefix("/etc/cameras.toml") for problem in caught.value.problems]


def test_a_camera_is_enough():
    config = parse(CAMERA)
    assert (config.model.file, config.camera[0].name, config.page) == ("fast", "a", None)
    assert config.state.folder == Path("/etc/pumpseg-state")


def test_every_error_has_its_line_and_key():
    text = """[model]
file = 3
treshold = 0.5

[[camera]]
name = "gate"
source = "rtsp://user:${NOPE}@host/x"
hours = ["6-12"]
rotate = 45
[[camera.zone]]
name = "a b"
polygon = [[0, 0], [1, "x"]]

[[camera]]
source = "demo"
[page]
address = "x:y"
[sinks.webhok]
url = "x"
[[rule]]
name = "r"
when = "count(gate) => 3"
"""
    assert problems(text) == [
        ":2: model.file: must be a valid string, got 3",
        ":3: model.treshold: unknown key: did you mean threshold?",
        ":7: camera[1].source: the environment has no variable NOPE",
        ":8: camera[1].hours[1]: must be HH:MM-HH:MM, such as 06:00-20:00 or 22:00-04:00, got '6-12'",
        ":9: camera[1].rotate: must be 0, 90, 180 or 270, got 45",
        ":11: camera[1].zone[1].name: must be letters, digits, - and _ (at most 63), got 'a b'",
        ":12: camera[1].zone[1].polygon[2][2]: must be a valid number, got 'x'",
        ":14: camera[2].name: is missing",
        ":17: page.address: must be [HOST:]PORT, such as 8000, 0.0.0.0:8000 or [::]:8000, got 'x:y'",
        ":18: sinks.webhok: unknown key: did you mean webhook?",
        ":22: rule[1].when: 'count(gate) => 3', character 13: expected >, >=, <, <=, == or !=, got '='",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r":1: camera: is missing"),
        ("camera = []", r":1: camera: must have at least 1 entries"),
        ("[model\n", r":1: is not valid TOML: .* at column 7"),
        ("a = " + "[" * 3000, r" is nested too deeply|is not valid TOML"),
        (CAMERA + CAMERA, r":5: camera\[2\]\.name: a is given twice"),
        (
            CAMERA + "track = false\n[[camera.line]]\nname='l'\npoints=[[0,0],[1,1]]",
            r":4: camera\[1\]\.track: lines count",
        ),
        (
            CAMERA + "[[camera.line]]\nname='l'\npoints=[[5,5],[5,5]]",
            r":6: .*points: line l: its points are all in one place",
        ),
        (CAMERA + "[[camera.zone]]\nname='z'\npolygon=[[0,0],[1,1]]", r":6: .*polygon: must have at least 3 entries"),
        (
            CAMERA + "[[camera.zone]]\nname='z'\npolygon=[[0,0],[1,nan],[0,1]]",
            r":6: .*polygon\[2\]\[2\]: must be a finite",
        ),
        (
            CAMERA + "[[rule]]\nname='r'\nwhen='camera lost'\ncameras=['b']",
            r":7: rule\[1\]\.cameras\[1\]: no camera b: there are a",
        ),
        (CAMERA + "[model]\nthreshold = 2", r":5: model\.threshold: must be less than or equal to 1, got 2"),
        (CAMERA + "[page]\ntoken = 'short'", r":5: page\.token: .*at least 8 characters$"),
        (CAMERA + "[page]\naddress='1'\n[health]\naddress='1'", r":7: health\.address: 127.0.0.1:1 is the page's"),
        (CAMERA + "[[rule]]\nname='r'\nwhen='count(gate) => 3'", r":6: rule\[1\]\.when: .*character 13: expected >"),
        (CAMERA + "[[rule]]\nname='r'\nwhen='count(gate) > 3'", r":6: rule\[1\]\.when: .*there is no zone gate"),
        (CAMERA + "fps = 0.5", r":4: camera\[1\]\.fps: objects are not followed below 1\.25: .*track = false"),
        (CAMERA + "since = 2026-01-01", r":4: camera\[1\]\.since: unknown key"),
    ],
)
def test_what_is_refused(text, problem):
    found = problems(text)
    assert len(found) == 1, found
    assert re.fullmatch(problem + ".*", found[0]), found


def test_a_camera_that_is_not_tracked_may_be_slow():
    assert parse(CAMERA + "fps = 0.1\ntrack = false").camera[0].fps == 0.1


def test_secrets_come_from_the_environment_and_are_never_shown():
    text = CAMERA.replace("demo", "rtsp://u:${PASSWORD}@host/x")
    assert parse(text, PASSWORD="secret").camera[0].source == "rtsp://u:secret@host/x"
    assert problems(text + "[page]\ntoken = '${SHORT}'", PASSWORD="secret", SHORT="abc") == [
        ":5: page.token: string must have at least 8 characters"
    ]


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "mine.onnx").touch()
    path = tmp_path / "cameras.toml"
    path.write_text(CAMERA + '[model]\nfile = "mine.onnx"\n[sinks.jsonl]\npath = "e.jsonl"\n', encoding="utf-8")
    config = read_config(path)
    assert (config.model.file, config.sinks.jsonl.path) == (str(tmp_path / "mine.onnx"), tmp_path / "e.jsonl")
    assert config.camera[0].source == "demo"


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff", ":1: is not UTF-8"), (b" " * (1 << 21), "larger than 1 MiB")]
)
def test_files_that_are_no_configuration(tmp_path, content, message):
    path = tmp_path / "cameras.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "other.toml")


def test_the_example_is_valid_as_it_is_and_with_everything():
    assert parse(EXAMPLE).camera[0].source == "demo"
    config = parse(EVERYTHING, **SECRETS)
    missing = {".".join(key) for key in keys_of(json_schema())} - {".".join(key) for key in given(config)}
    assert not missing, "the example lacks these keys"


def test_the_page_of_the_docs_has_the_example():
    page = Path(__file__).parents[3] / "docs" / "watch.md"
    assert f"```toml\n{EXAMPLE}```\n" in page.read_text(encoding="utf-8")


def keys_of(schema, section=None, prefix=()):
    section = schema if section is None else section
    for name, value in section["properties"].items():
        text = json.dumps(value)
        inner = re.search(r"#/\$defs/(\w+Section)", text)
        if inner:
            yield from keys_of(schema, schema["$defs"][inner[1]], (*prefix, name))
        else:
            yield (*prefix, name)


def given(section, prefix=()):
    for name in section.model_fields_set:
        value = getattr(section, name)
        value = value[0] if isinstance(value, tuple) and value and hasattr(value[0], "model_fields_set") else value
        if hasattr(value, "model_fields_set"):
            yield from given(value, (*prefix, name))
        else:
            yield (*prefix, name)


def test_the_schema_says_what_the_types_say():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    values = json.loads(parse(EVERYTHING, **SECRETS).model_dump_json(exclude_unset=True))
    jsonschema.validate(values, schema)
    values["camera"][0]["plygon"] = 1
    with pytest.raises(jsonschema.ValidationError, match="plygon"):
        jsonschema.validate(values, schema)
    assert "description" in schema["$defs"]["ZoneSection"]["properties"]["share"]
    assert isinstance(Config.model_json_schema(), dict)
