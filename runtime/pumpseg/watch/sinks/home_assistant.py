"""What Home Assistant has to know about a watched camera, by its MQTT device discovery.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload: `device`, with an identifier, and `origin`,
with a name, are required, as are `platform` and `unique_id` of each component; `state_topic` of sensors and events,
`event_types` of events, `image_topic` of images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pumpseg

ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True)
class StateValue:
    """A number that a camera's state has under a name. unit: such as "%"; total: whether it only counts up."""

    name: str
    unit: str | None = None
    total: bool = False


@dataclass(frozen=True)
class Topics:
    """The topics of a prefix, which no two machines at a broker may share."""

    prefix: str

    @property
    def availability(self) -> str:
        """online or offline, retained: of the process."""
        return f"{self.prefix}/availability"

    def state(self, camera: str) -> str:
        """JSON, retained: {"connected": "ON", "values": {...}}."""
        return f"{self.prefix}/{camera}/state"

    def event(self, camera: str, rule: str) -> str:
        """JSON of an event, with its rule as event_type."""
        return f"{self.prefix}/{camera}/event/{rule}"

    def snapshot(self, camera: str) -> str:
        """JPEG of the last event that has one, retained."""
        return f"{self.prefix}/{camera}/snapshot"


def discovery(
    topics: Topics, camera: str, rules: Sequence[str], values: Sequence[StateValue], *, prefix: str = "homeassistant"
) -> tuple[str, str]:
    """Topic and payload that make a camera a device of Home Assistant, to be published retained.

    rules, values: that its events and its state can have; each becomes an entity. prefix: Home Assistant's own.
    """
    device_id = f"{topics.prefix}_{camera}"
    state = topics.state(camera)
    components: dict[str, dict[str, Any]] = {
        "connected": {
            "platform": "binary_sensor",
            "name": "Connected",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": state,
            "value_template": "{{ value_json.connected }}",
        },
        "snapshot": {
            "platform": "image",
            "name": "Last event",
            "image_topic": topics.snapshot(camera),
            "content_type": "image/jpeg",
        },
    }
    for rule in rules:
        components[f"event_{rule}"] = {
            "platform": "event",
            "name": rule,
            "state_topic": topics.event(camera, rule),
            "event_types": [rule],
        }
    for value in values:
        sensor = components[f"value_{value.name}"] = {
            "platform": "sensor",
            "name": value.name,
            "state_topic": state,
            # json.dumps: a name with a quote must not end the text in the template.
            "value_template": "{{ value_json['values'].get(" + json.dumps(value.name) + ") }}",
            "state_class": "total_increasing" if value.total else "measurement",
        }
        if value.unit is not None:
            sensor["unit_of_measurement"] = value.unit
    for key, component in components.items():
        component["unique_id"] = f"{device_id}_{key}"
    payload = {
        "device": {
            "identifiers": [device_id],
            "name": camera,
            "manufacturer": "pumpseg",
            "model": "Watched camera",
            "sw_version": pumpseg.__version__,
        },
        "origin": {"name": "pumpseg", "sw_version": pumpseg.__version__},
        "availability": [{"topic": topics.availability, "payload_available": ONLINE, "payload_not_available": OFFLINE}],
        "qos": 1,
        "components": components,
    }
    object_id = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in device_id)
    return f"{prefix}/device/{object_id}/config", json.dumps(payload)
