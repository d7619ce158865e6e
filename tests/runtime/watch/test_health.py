"""/healthz and /metrics, fetched."""

import json
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import pytest
from page_client import fetch
from prometheus_client.parser import text_string_to_metric_families

from pumpseg.instances import Instances
from pumpseg.video import Result
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.watch.figures import Meter
from pumpseg.watch.health import HealthServer, Watched, ask, temperatures


@dataclass
class Camera:
    name: str
    meter: Meter = field(default_factory=Meter)
    ticked: float = field(default_factory=monotonic)
    stuck_after: float = 60.0


@dataclass
class Sink:
    name: str = "webhook"
    sent: int = 3
    dropped: int = 1
    failed: int = 1
    waiting: int = 0


@dataclass
class Model:
    swaps: int = 2
    refused: int = 1
    problem: str | None = None


@pytest.fixture
def serve():
    servers = []

    def start(watched, **options):
        servers.append(HealthServer(PageAddress("127.0.0.1", 0), watched, **options))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()


def result(instances=None):
    frame = np.zeros((8, 8, 3), np.uint8)
    return Result(frame, Instances.empty((8, 8)) if instances is None else instances, "x", 0, 0.0, latency=0.2)


def test_metrics_are_those_of_prometheus(serve):
    gate, yard = Camera('the "gate"'), Camera("yard")
    gate.meter.add(result())
    gate.meter.add(result())
    yard.meter.end("lost", "gone")
    url = serve(Watched([gate, yard], [Sink(waiting=5)], Model(), {("yard", "crowd"): 4}))
    status, text, headers = fetch(f"{url}metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["pumpseg_frames_total", 'the "gate"'] == 2
    assert samples["pumpseg_latency_seconds", 'the "gate"', "0.95"] == 0.2
    assert samples["pumpseg_camera_state", "yard", "lost"] == 1
    assert samples["pumpseg_camera_state", "yard", "live"] == 0
    assert samples["pumpseg_events_total", "yard", "crowd"] == 4
    assert samples["pumpseg_spool_length", "webhook"] == 5
    assert samples["pumpseg_events_dropped_total", "webhook"] == 2
    assert samples["pumpseg_model_swaps_total",] == 2
    assert samples["process_resident_memory_bytes",] > 1e6


def test_a_lost_camera_is_no_reason_to_restart_and_a_stuck_thread_is(serve):
    gate, yard = Camera("gate"), Camera("yard")
    gate.meter.add(result())
    yard.meter.end("lost", "gone")
    url = serve(Watched([gate, yard], [Sink(dropped=0, failed=0, waiting=2)], Model(), {}))
    status, body, _ = fetch(f"{url}healthz")
    state = json.loads(body)
    assert (status, state["status"]) == (200, "degraded")
    assert (state["cameras"]["gate"]["state"], state["cameras"]["yard"]["reason"]) == ("live", "gone")
    yard.meter.add(result())
    assert json.loads(fetch(f"{url}healthz")[1])["status"] == "ok"
    yard.meter.min_fps, yard.meter.clock = 1.0, iter(range(0, 1000, 5)).__next__
    yard.meter.end("off")
    for _ in range(5):
        yard.meter.add(result())
    state = json.loads(fetch(f"{url}healthz")[1])
    assert (state["status"], "too few" in state["cameras"]["yard"]["reason"]) == ("degraded", True)
    gate.ticked -= 61
    status, body, _ = fetch(f"{url}healthz")
    assert (status, json.loads(body)["cameras"]["gate"]["state"]) == (503, "stuck")


def test_others_are_refused(serve):
    url = serve(Watched([Camera("gate")], [], Model(), {}), token="let-me-in")
    base = url.partition("?")[0]
    assert fetch(f"{base}metrics")[0] == 403
    assert fetch(f"{base}metrics?token=let-me-in")[0] == 200
    assert fetch(f"{base}metrics?token=let-me-in", Host="evil.example")[0] == 403
    assert fetch(f"{base}other?token=let-me-in")[0] == 404
    assert fetch(url)[0] == 200


def test_a_health_check_asks(serve):
    camera = Camera("gate")
    url = serve(Watched([camera], [], Model(), {}), token="let-me-in")
    address = PageAddress.parse(url.split("/")[2])
    assert ask(address, "let-me-in") == (True, "ok")
    assert ask(PageAddress("0.0.0.0", address.port), "let-me-in") == (True, "ok")
    assert ask(address, None) == (False, "unhealthy (403)")
    camera.ticked -= 61
    assert ask(address, "let-me-in") == (False, "unhealthy (503)")
    well, status = ask(PageAddress("127.0.0.1", 9), None)
    assert not well
    assert status.startswith("no answer")


def test_temperatures_are_those_of_the_kernel(tmp_path):
    for number, (kind, value) in enumerate([("cpu-thermal", "48250\n"), ("gpu", "none")]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n", encoding="ascii")
        (zone / "temp").write_text(value, encoding="ascii")
    assert temperatures(tmp_path) == [("0-cpu-thermal", 48.25)]
    assert temperatures(tmp_path / "none") == []
