"""What a configuration would run, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pumpseg.redaction import redacted
from pumpseg.segmenter import Segmenter
from pumpseg.watch.config import CameraSection, Config, ConfigError, ScheduleSection, rules_of
from pumpseg.watch.rules import parse_rule


def described(config: Config, segmenter: Segmenter) -> Iterator[str]:
    """Lines about everything that would run, without secrets."""
    plural = "s" if len(config.camera) > 1 else ""
    yield f"model {segmenter.path.name} on {segmenter.provider}, classes: {', '.join(segmenter.class_names)}"
    yield f"{len(config.camera)} camera{plural}"
    for camera in config.camera:
        yield f"  {camera.name}: {redacted(camera.source)}{_details(camera)}, {_hours(camera, config.schedule)}"
        for zone in camera.zone:
            yield f"    zone {zone.name}: {len(zone.polygon)} corners, {_classes(zone.classes)}"
        for line in camera.line:
            yield f"    line {line.name}: {_classes(line.classes)}"
        for rule in rules_of(config, camera):
            how_often = f"at most every {rule.cooldown:g} s" if rule.cooldown else "each time"
            yield f"    rule {rule.name}: {rule.rule}, {how_often}"
    sinks = config.sinks
    if sinks.jsonl:
        yield f"events to {sinks.jsonl.path}"
    if sinks.webhook:
        signed = "signed" if sinks.webhook.secret else "not signed"
        yield f"events to {redacted(sinks.webhook.url)}, {signed}"
    if sinks.mqtt:
        tls = " with TLS" if sinks.mqtt.tls else ""
        found = ", with Home Assistant discovery" if sinks.mqtt.discovery else ""
        yield f"events to MQTT at {sinks.mqtt.host}{tls}{found}"
    if sinks.clips:
        yield f"clips to {sinks.clips.folder}: {sinks.clips.before:g} s before and {sinks.clips.after:g} s after"
    if sinks.snapshots:
        yield f"snapshots to {sinks.snapshots.folder}"
    if config.collect:
        yield f"hard frames to {config.collect.folder}: at most {config.collect.per_hour} an hour"
    if config.page:
        yield f"page on {config.page.address}"
    if config.health:
        yield f"/healthz and /metrics on {config.health.address}"
    yield f"state in {config.state.folder}"


def check_classes(config: Config, class_names: Sequence[str], path: Path) -> None:
    """Raise ConfigError if a class is named that the model does not have. path: of the configuration."""
    named = [
        (f"{what} {place.name} of camera {camera.name}", name)
        for camera in config.camera
        for what, places in (("zone", camera.zone), ("line", camera.line))
        for place in places
        for name in place.classes
    ]
    named += [(f"rule {rule.name}", name) for rule in config.rule for name in parse_rule(rule.when).classes]
    named += [("sinks.blur", name) for name in (config.sinks.blur.classes if config.sinks.blur else ())]
    problems = [
        f"{path}: {where}: the model has no class {name}: there are {', '.join(class_names)}"
        for where, name in named
        if name not in class_names
    ]
    if problems:
        raise ConfigError(problems)


def _details(camera: CameraSection) -> str:
    details = [f"{camera.size} requested"] if camera.size else []
    details += [f"at most {camera.fps:g} fps"] if camera.fps else []
    details += [f"rotated by {camera.rotate} degrees"] if camera.rotate else []
    details += [f"{len(camera.mask_out)} parts blackened"] if camera.mask_out else []
    details += [] if camera.track else ["not tracked"]
    return "".join(f", {text}" for text in details)


def _hours(camera: CameraSection, usual: ScheduleSection) -> str:
    schedule = camera if camera.hours or camera.days else usual
    days, hours = ", ".join(schedule.days), ", ".join(schedule.hours)
    return " ".join(filter(None, (days, hours))) or "always"


def _classes(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "all classes"
