"""Opens what a configuration names as the receivers of events."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pumpseg.watch.config import SinksSection
from pumpseg.watch.sinks.clips import ClipSink
from pumpseg.watch.sinks.event_sink import EventSink
from pumpseg.watch.sinks.json_lines import JsonLinesEventSink
from pumpseg.watch.sinks.mqtt import Announced, MqttSink
from pumpseg.watch.sinks.snapshots import SnapshotSink
from pumpseg.watch.sinks.spool import Spool
from pumpseg.watch.sinks.webhook import WebhookSink

_MB, _GB, _DAY = 1e6, 1e9, 24 * 3600.0


def open_event_sinks(sinks: SinksSection, state: Path, announced: Sequence[Announced]) -> list[EventSink]:
    """The sinks of a configuration. state: folder for what waits to be sent. announced: for Home Assistant.

    Raises PumpsegError for what cannot be opened; the others are closed again.
    """
    opened: list[EventSink] = []
    with contextlib.ExitStack() as stack:

        def add(sink: EventSink) -> None:
            opened.append(stack.enter_context(sink))

        def spool(name: str, megabytes: float) -> Spool:
            opened = Spool(state / name, max_bytes=int(megabytes * _MB))
            stack.callback(opened.close)  # a sink that cannot be opened does not close it
            return opened

        if sinks.jsonl is not None:
            add(JsonLinesEventSink(sinks.jsonl.path))
        if sinks.snapshots is not None:
            kept = sinks.snapshots
            add(SnapshotSink(kept.folder, max_bytes=kept.max_gb * _GB, max_age=kept.max_days * _DAY))
        if sinks.webhook is not None:
            hook = sinks.webhook
            add(
                WebhookSink(
                    hook.url,
                    spool("webhook", hook.spool_mb),
                    secret=hook.secret,
                    token=hook.token,
                    timeout=hook.timeout,
                    snapshot=hook.snapshot,
                )
            )
        if sinks.mqtt is not None:
            mqtt = sinks.mqtt
            add(
                MqttSink(
                    mqtt.host,
                    spool("mqtt", mqtt.spool_mb),
                    port=mqtt.port,
                    user=mqtt.user,
                    password=mqtt.password,
                    tls=mqtt.tls,
                    ca_file=mqtt.ca_file,
                    prefix=mqtt.prefix,
                    announced=announced if mqtt.discovery else (),
                    discovery_prefix=mqtt.discovery_prefix,
                    snapshot=mqtt.snapshot,
                )
            )
        if sinks.clips is not None:
            clips = sinks.clips
            add(
                ClipSink(
                    clips.folder,
                    before=clips.before,
                    after=clips.after,
                    max_bytes=clips.max_gb * _GB,
                    max_age=clips.max_days * _DAY,
                )
            )
        stack.pop_all()
    return opened
