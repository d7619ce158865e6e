"""Events and states to an MQTT broker, and what Home Assistant has to know about them."""

from __future__ import annotations

import json
import logging
import secrets
import ssl
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg.errors import OptionError, first_line, require
from pumpseg.watch.event import Event, Value
from pumpseg.watch.sinks.home_assistant import OFFLINE, ONLINE, StateValue, Topics, discovery
from pumpseg.watch.sinks.spool import Spool
from pumpseg.watch.sinks.spooled_sink import RetryLater, SpooledSink

log = logging.getLogger("pumpseg")

KEEP_ALIVE = 30
MAX_RECONNECT_DELAY = 60
_QOS = 1


@dataclass(frozen=True)
class Announced:
    """A camera as it is announced to Home Assistant: its name, the rules that can fire, and the values of its state."""

    camera: str
    rules: Sequence[str] = ()
    values: Sequence[StateValue] = ()


class MqttSink(SpooledSink):
    """Publishes events with QoS 1 and cameras' states, retained, to a broker (MQTT 3.1.1); topics: see `Topics`.

    While the broker is away events stay in the spool; an event leaves it when the broker has acknowledged it. The
    broker says "offline" for us when the connection is lost (last will).
    port: 1883 by default, 8883 with TLS. ca_file: of the broker's certificate, in place of the system's. prefix: of
    all topics; no two machines at a broker may have the same. announced: cameras for Home Assistant, under
    discovery_prefix.
    Raises PumpsegError if paho-mqtt is not installed, OptionError for a host, port, prefix or file that cannot be used.
    """

    def __init__(
        self,
        host: str,
        spool: Spool,
        *,
        port: int | None = None,
        user: str | None = None,
        password: str | None = None,
        tls: bool = False,
        ca_file: Path | None = None,
        prefix: str = "pumpseg",
        announced: Sequence[Announced] = (),
        discovery_prefix: str = "homeassistant",
        **options: Any,
    ) -> None:
        port = port or (8883 if tls else 1883)
        names = [prefix, *(camera.camera for camera in announced)]
        if bad := next((name for name in names if not name or set("+#/\0") & set(name)), None):
            raise OptionError(f"MQTT topics cannot have {bad!r}: +, # and / have a meaning of their own")
        if not host or not 0 < port < 65536:
            raise OptionError(f"an MQTT broker needs a host and a port from 1 to 65535, not {host!r} and {port}")
        if password is not None and user is None:
            raise OptionError("MQTT has no password without a user")
        self.topics = Topics(prefix)
        self._discovery = [
            discovery(self.topics, camera.camera, camera.rules, camera.values, prefix=discovery_prefix)
            for camera in announced
        ]
        self._changed = threading.Condition()
        self._is_connected = self._interrupted = False
        self._acknowledged: set[int] = set()
        self._states: dict[str, str] = {}
        self._reason = ""
        super().__init__(f"MQTT {host}:{port}", spool, **options)

        paho: Any = require("paho.mqtt.client", extra="watch")
        # A new name each time: the session is not needed, the spool has what is not acknowledged.
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"{prefix}-{secrets.token_hex(4)}")
        self._client = client
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_publish = self._on_connect_fail, self._on_publish
        client.will_set(self.topics.availability, OFFLINE, qos=_QOS, retain=True)
        client.reconnect_delay_set(1, MAX_RECONNECT_DELAY)
        if user is not None:
            client.username_pw_set(user, password)
        if tls:
            client.tls_set_context(_tls_context(ca_file))
        client.connect_async(host, port, KEEP_ALIVE)
        client.loop_start()
        self.start()

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._is_connected

    def set_state(self, camera: str, *, connected: bool, values: Mapping[str, Value]) -> None:
        """Publish what a camera is now, if it has changed. Waits for nobody; the newest state goes out later if the
        broker is away. values: numbers as `Announced` names them.
        """
        state = json.dumps({"connected": "ON" if connected else "OFF", "values": dict(values)})
        with self._changed:
            if self._states.get(camera) == state:
                return
            self._states[camera] = state
            is_connected = self._is_connected
        if is_connected:
            self._client.publish(self.topics.state(camera), state, qos=_QOS, retain=True)

    def deliver(self, event_id: str, content: bytes) -> None:
        event = Event.from_json(content)
        record = {"event_type": event.rule, **json.loads(event.to_json())}
        messages: list[tuple[str, str | bytes, bool]] = []
        if event.snapshot is not None:
            messages.append((self.topics.snapshot(event.camera), event.snapshot, True))
        # Home Assistant ignores a retained event: it would be of the past.
        messages.append((self.topics.event(event.camera, event.rule), json.dumps(record, ensure_ascii=False), False))
        self._wait(lambda: self._is_connected)
        with self._changed:
            self._acknowledged.clear()
        # After a lost connection the client sends what is not acknowledged again by itself.
        sent = {self._publish(*message) for message in messages}
        self._wait(lambda: sent <= self._acknowledged)

    def _publish(self, topic: str, payload: str | bytes, retain: bool) -> int:
        try:
            info = self._client.publish(topic, payload, qos=_QOS, retain=retain)
        except ValueError as error:
            raise RetryLater(f"cannot publish to {topic}: {error}") from None
        return int(info.mid)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._interrupted)
            if not condition():
                raise RetryLater("the connection is being closed")

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        if not self._is_connected:
            self.interrupt()
        super().close()
        if self._is_connected:
            # A connection that is closed in good order has no last will.
            info = self._client.publish(self.topics.availability, OFFLINE, qos=_QOS, retain=True)
            with self._changed:
                self._changed.wait_for(lambda: info.mid in self._acknowledged, timeout=2)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            self._log_failure(f"the broker refuses the connection ({reason_code})")
            return
        log.info("%s: connected", self.name)
        self._reason = ""
        for topic, payload in self._discovery:
            client.publish(topic, payload, qos=_QOS, retain=True)
        client.publish(self.topics.availability, ONLINE, qos=_QOS, retain=True)
        with self._changed:
            self._is_connected = True
            states = dict(self._states)
            self._changed.notify_all()
        for camera, state in states.items():
            client.publish(self.topics.state(camera), state, qos=_QOS, retain=True)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        # The client reports no reason, and calls this while it handles the exception.
        error = sys.exception()
        self._log_failure("the broker cannot be reached" + ("" if error is None else f" ({first_line(error)})"))

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        with self._changed:
            was_connected, self._is_connected = self._is_connected, False
        if was_connected and not self.closing.is_set():
            self._log_failure(f"the connection is lost ({reason_code})")

    def _log_failure(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            log.warning("%s: %s; events waiting: %d", self.name, reason, self.waiting)

    def _on_publish(self, client: Any, data: Any, message_id: int, reason_code: Any, properties: Any) -> None:
        with self._changed:
            self._acknowledged.add(message_id)
            self._changed.notify_all()


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"cannot use the certificates in {ca_file}: {error.strerror or error}") from None
