import json

import jsonschema
import pytest

from pumpseg.watch.sinks.home_assistant import StateValue, Topics, discovery

TEXT = {"type": "string", "minLength": 1}
TOPIC = {"type": "string", "pattern": "^[^+#]+$"}


def component(platform, required, **keys):
    common = {"platform": {"const": platform}, "unique_id": TEXT, "name": TEXT, "value_template": TEXT}
    common["entity_category"] = {"enum": ["config", "diagnostic"]}
    required = ["platform", "unique_id", *required]
    return {"properties": {**common, **keys}, "required": required, "additionalProperties": False}


# What https://www.home-assistant.io/integrations/mqtt/ says of "Device discovery payload", "Using availability topics"
# and "Adding information about the origin", and the pages binary_sensor.mqtt, event.mqtt, image.mqtt and sensor.mqtt
# of their configuration variables: which are required, and the kinds of those that we use.
DISCOVERY_SCHEMA = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "anyOf": [{"required": ["identifiers"]}, {"required": ["connections"]}],
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version"), TEXT),
            },
            "additionalProperties": False,
        },
        "origin": {
            "required": ["name"],
            "properties": dict.fromkeys(("name", "sw_version", "support_url"), TEXT),
            "additionalProperties": False,
        },
        "availability": {
            "type": "array",
            "items": {
                "required": ["topic"],
                "properties": {"topic": TOPIC, "payload_available": TEXT, "payload_not_available": TEXT},
                "additionalProperties": False,
            },
        },
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "oneOf": [
                    component(
                        "binary_sensor", ["state_topic"], state_topic=TOPIC, device_class={"const": "connectivity"}
                    ),
                    component(
                        "event",
                        ["state_topic", "event_types"],
                        state_topic=TOPIC,
                        event_types={"type": "array", "items": TEXT, "minItems": 1},
                    ),
                    component("image", ["image_topic"], image_topic=TOPIC, content_type={"const": "image/jpeg"}),
                    component(
                        "sensor",
                        ["state_topic"],
                        state_topic=TOPIC,
                        state_class={"enum": ["measurement", "total", "total_increasing"]},
                        unit_of_measurement=TEXT,
                    ),
                ]
            },
        },
    },
}

VALUES = [StateValue("gate count"), StateValue("gate occupancy", "%"), StateValue("fence in", total=True)]


def test_payload_is_what_home_assistant_documents():
    topic, payload = discovery(Topics("farm"), "yard", ["crowded", "camera-lost"], VALUES)
    assert topic == "homeassistant/device/farm_yard/config"
    jsonschema.validate(json.loads(payload), DISCOVERY_SCHEMA)


@pytest.mark.parametrize(
    "missing",
    [("device",), ("origin", "name"), ("device", "identifiers"), ("components", "event_crowded", "unique_id")],
)
def test_schema_of_this_test_refuses_what_home_assistant_would(missing):
    content = json.loads(discovery(Topics("farm"), "yard", ["crowded"], VALUES)[1])
    inner = content
    for key in missing[:-1]:
        inner = inner[key]
    del inner[missing[-1]]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, DISCOVERY_SCHEMA)


def test_each_rule_and_value_is_an_entity_of_its_own():
    payloads = [json.loads(discovery(Topics("farm"), camera, ["crowded"], VALUES)[1]) for camera in ("yard", "barn")]
    components = payloads[0]["components"]
    assert components["event_crowded"]["event_types"] == ["crowded"]
    assert components["event_crowded"]["state_topic"] == "farm/yard/event/crowded"
    assert components["value_gate count"]["value_template"] == "{{ value_json['values'].get(\"gate count\") }}"
    assert components["value_gate occupancy"]["unit_of_measurement"] == "%"
    assert components["value_fence in"]["state_class"] == "total_increasing"
    ids = [component["unique_id"] for payload in payloads for component in payload["components"].values()]
    assert len(ids) == len(set(ids)) == 2 * 6


def test_topic_has_only_characters_that_home_assistant_allows():
    assert discovery(Topics("farm"), "hof süd", [], [], prefix="ha")[0] == "ha/device/farm_hof_s_d/config"
