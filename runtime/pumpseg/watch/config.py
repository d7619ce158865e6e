"""The TOML file of `pumpseg-watch`: types, their JSON schema, and errors that name the key and its line."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pumpseg.errors import OptionError, PumpsegError
from pumpseg.inference.tiles import MAX_TILES
from pumpseg.video.tracking import MIN_RATE
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.watch.hours import DAYS, Hours
from pumpseg.watch.rule_evaluator import NamedRule
from pumpseg.watch.rules import Rule, RuleError, parse_rule
from pumpseg.watch.sinks.spooled_sink import SnapshotKind
from pumpseg.watch.snapshot import BlurKind
from pumpseg.watch.toml_lines import Key, line_of
from pumpseg.zones import Line, Zone

MAX_BYTES = 1 << 20
MAX_CAMERAS = 64
_ENVIRONMENT = re.compile(r"\$\{(\w+)\}")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


class ConfigError(PumpsegError, ValueError):
    """A configuration that cannot be used. problems: one line each, with the file, the line and the key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} errors:\n" if len(problems) > 1 else ""
        super().__init__(count + "\n".join(problems))


def _address(text: str) -> str:
    PageAddress.parse(text)
    return text


def _hours(text: str) -> str:
    Hours.parse(text)
    return text


def _rule(text: str) -> str:
    try:
        parse_rule(text)
    except RuleError as error:
        raise ValueError(str(error).removeprefix("rule ")) from None
    return text


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise ValueError("must be WIDTHxHEIGHT in pixels, such as 640x480")
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
"""Part of MQTT topics, file names and labels of metrics."""
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=1000)]
Address = Annotated[str, AfterValidator(_address)]
HourRange = Annotated[str, AfterValidator(_hours)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
assert get_args(Day) == DAYS


class _Section(BaseModel):
    # Strict JSON: no number is taken for a text or the other way round.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ModelSection(_Section):
    file: str = "fast"
    """A shipped model (fast, accurate), or the path of an ONNX file."""
    threshold: Share | None = None
    """Instances with a lower score are left out; by default the model's own recommendation."""
    provider: str = "auto"
    """Execution provider: auto, cpu, cuda, tensorrt, openvino, coreml or directml."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Cores for inference, of all cameras together; by default the physical cores."""
    tiles: Annotated[int, Field(ge=1, le=MAX_TILES)] = 1
    """From 2 on, also run the model on tiles x tiles overlapping tiles of each frame: for small objects."""
    reload: bool = True
    """Take a new model when the file changes."""


class ScheduleSection(_Section):
    hours: tuple[HourRange, ...] = ()
    """When cameras are watched, local time, such as ["06:00-12:00", "22:00-04:00"]; empty: always."""
    days: tuple[Day, ...] = ()
    """On which days, such as ["mon", "tue"]; empty: every day. Hours past midnight belong to the day they begin on."""


class ZoneSection(_Section):
    name: Name
    polygon: Polygon
    """Corners [x, y] in pixels of the frame after rotation, or as shares of its sides if none is above 1."""
    classes: tuple[str, ...] = ()
    """Count these classes only; empty: all."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """An object is in the zone when this share of its mask is."""

    def made(self) -> Zone:
        """Raises OptionError for an outline that cannot be used."""
        return Zone(self.name, self.polygon, self.share, self.classes)


class LineSection(_Section):
    name: Name
    points: tuple[Point, Point]
    """Start and end, in the same units as a zone's corners. Walking from start to end, "in" is from left to right."""
    classes: tuple[str, ...] = ()
    """Count these classes only; empty: all."""

    def made(self) -> Line:
        """Raises OptionError for ends that cannot be used."""
        return Line(self.name, self.points, self.classes)


class CameraSection(ScheduleSection):
    name: Name
    source: str = Field(min_length=1)
    """As for pumpseg-video: webcam, /dev/video0, an rtsp:// or http:// URL; a video file is played over and over.
    ${NAME} is taken from the environment: for passwords."""
    size: Annotated[str, AfterValidator(_size)] | None = None
    """Picture size to request of a camera device, such as "1280x720"."""
    fps: Positive | None = None
    """Analyse at most so many frames a second, with track at least 1.25; by default as many as the model manages."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees clockwise by which the picture is turned."""
    mask_out: tuple[Polygon, ...] = ()
    """Parts of the picture that are blackened before anything sees them."""
    track: bool = True
    """Give objects ids that last: needed for lines, entering, leaving and dwell times."""
    zone: tuple[ZoneSection, ...] = ()
    line: tuple[LineSection, ...] = ()

    @property
    def pixels(self) -> tuple[int, int] | None:
        """(width, height) to request."""
        if self.size is None:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class RuleSection(_Section):
    name: Name
    when: Annotated[str, AfterValidator(_rule)]
    """Such as "count(gate) >= 3 for 5 s", "occupancy(field) > 0.6", "crossed(gate) in", "camera lost"."""
    cameras: tuple[Name, ...] = ()
    """Cameras that the rule is for; empty: all that have the zones and lines that it names."""
    cooldown: NotNegative | None = None
    """Seconds after an event in which the rule is silent; what happens meanwhile is one event at their end. By default
    60 for what lasts (count, occupancy, camera lost), and 0 for what happens."""


Snapshot = Annotated[SnapshotKind, Field(description="Picture that goes along: full, blurred or none.")]


class JsonlSection(_Section):
    path: Path
    """A line for each event is appended to this file."""


class WebhookSection(_Section):
    url: str = Field(pattern=r"^https?://")
    """Each event is posted here as JSON."""
    secret: str | None = None
    """For the HMAC-SHA256 signature; take it from the environment: "${WEBHOOK_SECRET}"."""
    token: str | None = None
    """Sent as a bearer token."""
    timeout: Positive = 20.0
    """Seconds until an answer must be there."""
    spool_mb: Annotated[float, Field(ge=1, le=1e6)] = 256.0
    """Events wait on the disk while the receiver is away; the oldest are dropped beyond this."""
    snapshot: Snapshot = "full"


class MqttSection(_Section):
    host: str = Field(min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """By default 1883, with TLS 8883."""
    user: str | None = None
    password: str | None = None
    """Take it from the environment: "${MQTT_PASSWORD}"."""
    tls: bool = False
    ca_file: Path | None = None
    """Certificate of the authority that signed the broker's; by default the system's."""
    prefix: Name = "pumpseg"
    """First part of every topic."""
    discovery: bool = True
    """Announce cameras, zones and lines to Home Assistant."""
    discovery_prefix: Name = "homeassistant"
    spool_mb: Annotated[float, Field(ge=1, le=1e6)] = 256.0
    """Events wait on the disk while the broker is away; the oldest are dropped beyond this."""
    snapshot: Snapshot = "full"


class ClipsSection(_Section):
    folder: Path
    before: Annotated[float, Field(ge=0, le=30)] = 5.0
    """Seconds of video kept from before the event."""
    after: Annotated[float, Field(ge=0, le=60)] = 10.0
    """Seconds from after it."""
    max_gb: Positive = 5.0
    """The oldest clips are removed beyond this."""
    max_days: Positive = 30.0


class SnapshotsSection(_Section):
    folder: Path
    max_gb: Positive = 1.0
    max_days: Positive = 30.0


class BlurSection(_Section):
    """What is blurred in "blurred" snapshots."""

    kind: BlurKind = "instances"
    """The instances by their masks, the background without them, or all of the frame."""
    classes: tuple[str, ...] = ()
    """Of the instances; empty: all."""


class SinksSection(_Section):
    blur: BlurSection | None = None
    jsonl: JsonlSection | None = None
    webhook: WebhookSection | None = None
    mqtt: MqttSection | None = None
    clips: ClipsSection | None = None
    snapshots: SnapshotsSection | None = None


class CollectSection(_Section):
    folder: Path
    """Frames that would teach a model most, as a data set with the model's masks as labels."""
    per_hour: Annotated[int, Field(ge=1, le=3600)] = 20
    """At most, of all cameras together."""
    max_frames: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The oldest are removed beyond this, and beyond the next two."""
    max_gb: Positive = 2.0
    max_days: Positive = 30.0
    near_threshold: Share = 0.1
    """Scores that are so close to the threshold count as unsure."""
    random_share: Share = 0.001
    """Share of the other frames to keep."""


class HealthSection(_Section):
    address: Address = "127.0.0.1:9090"
    """[HOST:]PORT of /healthz and /metrics; without a host for this machine only."""
    token: str | None = Field(default=None, min_length=8)
    """Must be in the query of every request; by default none, and a random one if other machines can reach it."""


class PageSection(_Section):
    address: Address = "127.0.0.1:8000"
    """[HOST:]PORT of the page; 0.0.0.0:8000 for other machines as well."""
    token: str | None = Field(default=None, min_length=8)
    """Must be in the page's address; by default a random one, which is printed."""


class StateSection(_Section):
    folder: Path = Path("pumpseg-state")
    """Counts and what waits to be sent: survives a restart."""


class Config(_Section):
    """Cameras to watch, what decides, and where events go. Paths are relative to the file's folder."""

    model: ModelSection = ModelSection()
    schedule: ScheduleSection = ScheduleSection()
    camera: Annotated[tuple[CameraSection, ...], Field(min_length=1, max_length=MAX_CAMERAS)]
    rule: tuple[RuleSection, ...] = ()
    sinks: SinksSection = SinksSection()
    collect: CollectSection | None = None
    health: HealthSection | None = None
    page: PageSection | None = None
    state: StateSection = StateSection()


def read_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a TOML file. Raises ConfigError with every problem found."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"cannot read {path}: {error.strerror}"]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{path} is larger than {MAX_BYTES >> 20} MiB: it is not a configuration"])
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8"]) from None
    return parse_config(text, path, environment)


def parse_config(text: str, path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a TOML text; path: of its file, for messages and for the paths in it.

    Raises ConfigError with every problem found.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([_syntax_problem(path, error)]) from None
    problems: list[tuple[Key, str]] = []
    values = _with_environment(raw, environment, (), problems)
    config = None
    try:
        config = Config.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems += _problems(error)
    if config is not None:
        problems += _contradictions(config)
    if problems or config is None:
        placed = sorted((line_of(text, key), shown_key(key), message) for key, message in problems)
        raise ConfigError([f"{path}:{line}: {key}{': ' if key else ''}{message}" for line, key, message in placed])
    return _with_absolute_paths(config, path.absolute().parent)


def shown_key(key: Key) -> str:
    """A key as in the file, places in arrays counted from 1: camera[1].zone[2].polygon."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _syntax_problem(path: Path, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{path} is nested too deeply"
    message, _, place = str(error).rpartition(" (at ")
    line = re.match(r"line (\d+), column (\d+)", place)
    if line is None:
        return f"{path} is not valid TOML: {error}"
    return f"{path}:{line[1]}: is not valid TOML: {message} at column {line[2]}"


def _with_environment(value: Any, environment: Mapping[str, str], key: Key, problems: list[tuple[Key, str]]) -> Any:
    """The value with ${NAME} replaced in every text; names that are not set become problems."""
    if isinstance(value, dict):
        return {name: _with_environment(part, environment, (*key, name), problems) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_environment(part, environment, (*key, i), problems) for i, part in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in environment:
            problems.append((key, f"the environment has no variable {match[1]}"))
        return environment.get(match[1], match[0])

    return _ENVIRONMENT.sub(replaced, value)


def _problems(error: ValidationError) -> Iterator[tuple[Key, str]]:
    errors = error.errors()
    for one in errors:
        key = tuple(one["loc"])
        # Entries that are wrong themselves are not counted in their array.
        wrong_inside = any(len(other["loc"]) > len(key) and other["loc"][: len(key)] == key for other in errors)
        if not (one["type"] == "too_short" and wrong_inside):
            yield _problem(one["type"], key, one["msg"], one["input"])


def _problem(kind: str, where: Sequence[str | int], message: str, value: Any) -> tuple[Key, str]:
    key = tuple(where)
    if kind in ("too_short", "too_long"):
        bound = re.search(r"at (least|most) (\d+)", message)
        return key, f"must have {bound[0] if bound else 'another number of'} entries"
    if kind == "extra_forbidden":
        return key, f"unknown key{_suggestion(str(key[-1]), _keys_at(key[:-1]))}"
    if kind == "missing":
        return key, "is missing"
    if kind == "string_pattern_mismatch" and key[-1] in ("name", "prefix", "discovery_prefix"):
        return key, f"must be letters, digits, - and _ (at most 63), got {value!r}"
    message = message.removeprefix("Value error, ").removeprefix("Input ").replace("should ", "must ")
    shown = "" if isinstance(value, (dict, list)) or key[-1] in _NOT_SHOWN else f", got {value!r}"
    return key, message[:1].lower() + message[1:] + ("" if "got " in message else shown)


_NOT_SHOWN = ("source", "secret", "password", "token", "url", "when")
"""Values that may be secret, and rules, whose messages have the text."""


def _keys_at(key: Key) -> list[str]:
    """The keys that the section at a place of the file may have."""
    section: Any = Config
    for part in key:
        if not isinstance(part, int):
            section = _section_in(section.model_fields[part].annotation)
    return list(section.model_fields)


def _section_in(annotation: Any) -> Any:
    """The section in an annotation such as tuple[Section, ...] or Section | None."""
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"


def _contradictions(config: Config) -> Iterator[tuple[Key, str]]:
    """What the types cannot say: names that are given twice, or that nothing has."""
    yield from _repeated(("camera",), [camera.name for camera in config.camera])
    yield from _repeated(("rule",), [rule.name for rule in config.rule])
    for i, camera in enumerate(config.camera):
        places = [("zone", j, zone.name) for j, zone in enumerate(camera.zone)]
        places += [("line", j, line.name) for j, line in enumerate(camera.line)]
        seen = set()
        for kind, j, name in places:
            if name in seen:
                yield ("camera", i, kind, j, "name"), f"{name} is the name of another zone or line of this camera"
            seen.add(name)
        if camera.line and not camera.track:
            yield ("camera", i, "track"), "lines count tracked objects: they need track = true"
        if camera.track and camera.fps is not None and camera.fps < MIN_RATE:
            yield ("camera", i, "fps"), f"objects are not followed below {MIN_RATE:g}: raise it, or set track = false"
        for j, zone in enumerate(camera.zone):
            yield from _unless_made(("camera", i, "zone", j, "polygon"), zone.made)
        for j, line in enumerate(camera.line):
            yield from _unless_made(("camera", i, "line", j, "points"), line.made)
    yield from _contradictions_of_rules(config)
    addresses = [PageAddress.parse(part.address) for part in (config.health, config.page) if part is not None]
    if len(addresses) == 2 and addresses[0] == addresses[1] and addresses[0].port:
        yield ("health", "address"), f"{addresses[0]} is the page's"


def _contradictions_of_rules(config: Config) -> Iterator[tuple[Key, str]]:
    cameras = {camera.name: camera for camera in config.camera}
    for i, section in enumerate(config.rule):
        unknown = [(j, name) for j, name in enumerate(section.cameras) if name not in cameras]
        for j, name in unknown:
            yield ("rule", i, "cameras", j), f"no camera {name}{_suggestion(name, list(cameras))}"
        if unknown:
            continue
        try:
            rule = parse_rule(section.when)
            chosen = [cameras[name] for name in section.cameras] or [
                camera for camera in cameras.values() if rule.place is None or rule.place in _places(rule, camera)
            ]
            for camera in chosen:
                _check_rule(rule, _names(camera.zone), _names(camera.line))
                if rule.needs_tracks and not camera.track:
                    yield (
                        ("rule", i, "when"),
                        f"{rule} needs tracked objects: camera {camera.name} has track = false",
                    )
            if not chosen:
                zones = {zone.name for camera in config.camera for zone in camera.zone}
                lines = {line.name for camera in config.camera for line in camera.line}
                _check_rule(rule, sorted(zones), sorted(lines))
        except RuleError as error:
            yield ("rule", i, "when"), str(error).removeprefix("rule ")


def _check_rule(rule: Rule, zones: Collection[str], lines: Collection[str]) -> None:
    rule.check(zones, lines, rule.classes)  # which classes there are the model says


def _places(rule: Rule, camera: CameraSection) -> list[str]:
    return _names(camera.line if rule.subject == "crossed" else camera.zone)


def _names(sections: Sequence[ZoneSection] | Sequence[LineSection]) -> list[str]:
    return [section.name for section in sections]


def rules_of(config: Config, camera: CameraSection) -> list[NamedRule]:
    """The rules for a camera: those that name it, or name no camera but nothing that it lacks."""
    rules = [(section, parse_rule(section.when)) for section in config.rule]
    return [
        NamedRule.of(section.name, rule, section.cooldown)
        for section, rule in rules
        if camera.name in section.cameras
        or (not section.cameras and (rule.place is None or rule.place in _places(rule, camera)))
    ]


def _unless_made(key: Key, make: Callable[[], object]) -> Iterator[tuple[Key, str]]:
    try:
        make()
    except OptionError as error:
        yield key, str(error)


def _repeated(key: Key, names: Sequence[str]) -> Iterator[tuple[Key, str]]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield (*key, i, "name"), f"{name} is given twice"


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    """Paths from the file's folder: a service runs somewhere else."""

    def absolute(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value
        if isinstance(value, _Section):
            return value.model_copy(update={name: absolute(part) for name, part in value})
        return value

    def found(name: str) -> str:
        here = folder / name
        return str(here) if "://" not in name and here.is_file() else name

    cameras = tuple(camera.model_copy(update={"source": found(camera.source)}) for camera in config.camera)
    model = config.model.model_copy(update={"file": found(config.model.file)})
    changed: Config = absolute(config).model_copy(update={"camera": cameras, "model": model})
    return changed


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
