import json
import shutil
import ssl
import subprocess
import sys
import time

import pytest
from mqtt_broker import Broker, Listener, needs_mosquitto

from pumpseg.errors import OptionError
from pumpseg.watch.sinks.home_assistant import StateValue
from pumpseg.watch.sinks.mqtt import Announced, MqttSink
from pumpseg.watch.sinks.spool import Spool

pytestmark = needs_mosquitto
EVENTS = "pumpseg/yard/event/crowded"


@pytest.fixture
def make_broker(tmp_path):
    brokers = []

    def make(*lines):
        folder = tmp_path / f"broker{len(brokers)}"
        folder.mkdir()
        brokers.append(Broker(folder, *lines))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture
def broker(make_broker):
    return make_broker()


@pytest.fixture
def listen():
    listeners = []

    def make(*arguments, **options):
        listeners.append(Listener(*arguments, **options))
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()


@pytest.fixture
def open_sink(tmp_path):
    sinks = []

    def make(port, host="127.0.0.1", **options):
        sinks.append(MqttSink(host, Spool(tmp_path / "spool"), port=port, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


def test_an_event_and_its_snapshot_are_published(broker, open_sink, listen, event, until):
    listener, sink = listen(broker.port), open_sink(broker.port)
    sink.send(event)
    until(lambda: listener.payloads(EVENTS) and sink.sent == 1)
    record = json.loads(listener.payloads(EVENTS)[0])
    assert record == {"event_type": "crowded", **json.loads(event.to_json())}
    assert listener.payloads("pumpseg/yard/snapshot") == [event.snapshot]
    # Only the snapshot is there for those who come later.
    later = listen(broker.port, name="later")
    until(lambda: later.payloads("pumpseg/availability") and later.payloads("pumpseg/yard/snapshot"))
    assert later.payloads(EVENTS) == []


def test_home_assistant_finds_cameras_and_states_whenever_it_starts(broker, open_sink, listen, until):
    announced = Announced("yard", ["crowded"], [StateValue("gate count")])
    sink = open_sink(broker.port, announced=[announced], prefix="farm", discovery_prefix="ha")
    sink.set_state("yard", connected=True, values={"gate count": 2})
    until(lambda: sink.connected)
    sink.set_state("yard", connected=True, values={"gate count": 3})
    earlier = listen(broker.port, name="earlier")
    until(lambda: any(b'"gate count": 3' in payload for payload in earlier.payloads("farm/yard/state")))
    listener = listen(broker.port)
    until(lambda: len(listener.messages) >= 3)
    assert all(retained for _, _, retained in listener.messages)
    (payload,) = listener.payloads("ha/device/farm_yard/config")
    assert json.loads(payload)["components"]["value_gate count"]["state_topic"] == "farm/yard/state"
    until(lambda: listener.payloads("farm/yard/state"))
    assert json.loads(listener.payloads("farm/yard/state")[-1]) == {"connected": "ON", "values": {"gate count": 3}}
    until(lambda: listener.payloads("farm/availability") == [b"online"])


def test_a_state_is_published_when_it_changes_only(broker, open_sink, listen, until):
    sink, listener = open_sink(broker.port), listen(broker.port, "pumpseg/+/state")
    until(lambda: sink.connected)
    for count in (1, 1, 1, 2):
        sink.set_state("yard", connected=True, values={"count": count})
    sink.set_state("yard", connected=False, values={"count": 2})
    until(lambda: len(listener.messages) == 3)
    time.sleep(0.1)
    assert len(listener.messages) == 3


def test_a_clean_end_says_offline(broker, open_sink, listen, until):
    sink, listener = open_sink(broker.port), listen(broker.port)
    until(lambda: listener.payloads("pumpseg/availability") == [b"online"])
    sink.close()
    until(lambda: listener.payloads("pumpseg/availability") == [b"online", b"offline"])


def test_events_of_an_outage_arrive_once_when_the_broker_is_back(broker, open_sink, listen, make_event, until, caplog):
    listener, sink = listen(broker.port, EVENTS), open_sink(broker.port)
    events = [make_event(snapshot=None) for _ in range(6)]
    sink.send(events[0])
    until(lambda: sink.sent == 1)
    broker.stop()
    until(lambda: not sink.connected)
    for event in events[1:]:
        sink.send(event)
    sink.set_state("yard", connected=True, values={"count": 7})
    assert sink.waiting == 5
    broker.start()
    until(lambda: sink.sent == 6 and len(listener.messages) == 6)
    assert [json.loads(payload)["id"] for payload in listener.payloads(EVENTS)] == [event.id for event in events]
    assert "the connection is lost" in caplog.text and sink.dropped == 0
    states = listen(broker.port, "pumpseg/yard/state", name="states")
    until(lambda: states.messages)


def test_user_and_password_are_needed_and_not_printed(make_broker, open_sink, listen, event, until, tmp_path, caplog):
    caplog.set_level("DEBUG")
    (tmp_path / "users").write_text("pump:s3cret-passw0rd\n", encoding="utf-8")
    (tmp_path / "users").chmod(0o600)
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd")
    subprocess.run(["mosquitto_passwd", "-U", tmp_path / "users"], check=True)
    broker = make_broker("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    sink = open_sink(broker.port, user="pump", password="wrong s3cret")
    sink.send(event)
    until(lambda: "the broker refuses the connection (Not authorized)" in caplog.text)
    sink.close()
    sink = open_sink(broker.port, user="pump", password="s3cret-passw0rd")
    until(lambda: sink.sent == 1)
    assert "s3cret" not in caplog.text + repr(sink) + sink.name


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls_checks_the_certificate(make_broker, open_sink, listen, event, until, tmp_path, caplog):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    broker = make_broker("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    sink = open_sink(broker.port, host="localhost", tls=True)
    sink.send(event)
    until(lambda: "the broker cannot be reached" in caplog.text)
    assert "certificate verify failed" in caplog.text
    sink.close()
    listener = listen(broker.port, EVENTS, tls_context=ssl.create_default_context(cafile=certificate))
    sink = open_sink(broker.port, host="localhost", tls=True, ca_file=certificate)
    until(lambda: sink.sent == 1 and listener.messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": "a/b"}, "MQTT topics cannot have 'a/b'"),
        ({"announced": [Announced("yard #1")]}, "MQTT topics cannot have 'yard #1'"),
        ({"password": "s3cret"}, "MQTT has no password without a user"),
        ({"host": ""}, "an MQTT broker needs a host and a port"),
        ({"port": 99999}, "an MQTT broker needs a host and a port"),
        ({"tls": True, "ca_file": "none.pem"}, "cannot use the certificates in none.pem"),
    ],
)
def test_options_that_cannot_be_used_are_refused(open_sink, options, message):
    with pytest.raises(OptionError, match=message):
        open_sink(**{"port": 1, **options})


def test_a_broker_that_is_not_there_holds_nobody_up(open_sink, make_event, broker):
    broker.stop()
    sink = open_sink(broker.port)
    start = time.monotonic()
    for _ in range(10):
        sink.send(make_event())
    sink.set_state("yard", connected=True, values={})
    sink.close()
    assert time.monotonic() - start < 3


SENDER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.sinks.mqtt import MqttSink
from pumpseg.watch.sinks.spool import Spool

sink = MqttSink("127.0.0.1", Spool(Path(sys.argv[2])), port=int(sys.argv[1]))
for number in range(int(sys.argv[3])):
    event = Event(new_event_id(), datetime.now(UTC), "yard", "crowded")
    sink.send(event)
    print(event.id, flush=True)
    time.sleep(0.002)
while sink.waiting:
    time.sleep(0.01)
sink.close()
"""


def test_killed_in_the_middle_it_says_offline_and_no_accepted_event_is_lost(broker, listen, until, tmp_path):
    listener = listen(broker.port)
    command = [sys.executable, "-c", SENDER, str(broker.port), str(tmp_path / "spool"), "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        accepted = [process.stdout.readline().strip() for _ in range(30)]
        until(lambda: listener.payloads(EVENTS))
        process.kill()
        accepted += [line.strip() for line in process.stdout if line.endswith("\n")]
    until(lambda: listener.payloads("pumpseg/availability")[-1:] == [b"offline"])
    before = len(listener.payloads(EVENTS))
    subprocess.run([*command[:-1], "0"], check=True, timeout=60)
    until(lambda: listener.payloads("pumpseg/availability")[-2:] == [b"online", b"offline"])
    received = [json.loads(payload)["id"] for payload in listener.payloads(EVENTS)]
    assert 0 < before < len(received)
    assert set(accepted) <= set(received) and len(set(received) - set(accepted)) <= 1
    # The one that was on its way may come twice.
    assert len(received) - len(set(received)) <= 1
    assert list(dict.fromkeys(received)) == sorted(set(received))
