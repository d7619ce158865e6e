"""Whether the watch works, for a watchdog (/healthz), and how well, for Prometheus (/metrics)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pumpseg.errors import first_line, require
from pumpseg.video.viewers.page_access import THIS_MACHINE, Access, PageAddress
from pumpseg.video.viewers.page_server import Answer, PageServer
from pumpseg.watch.figures import STATES, Meter

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_THERMAL = Path("/sys/class/thermal")


class HealthyCamera(Protocol):
    """What is asked of a camera. stuck_after: seconds without a tick after which its thread hangs."""

    name: str
    meter: Meter
    ticked: float
    stuck_after: float


class Deliverer(Protocol):
    """What is asked of a sink of events."""

    name: str
    sent: int
    failed: int

    @property
    def waiting(self) -> int: ...

    @property
    def dropped(self) -> int: ...


class SwappedModel(Protocol):
    swaps: int
    refused: int
    problem: str | None


@dataclass(frozen=True)
class Watched:
    """What the figures are about. events: by camera and rule, so far."""

    cameras: Sequence[HealthyCamera]
    sinks: Sequence[Deliverer]
    model: SwappedModel
    events: Mapping[tuple[str, str], int]


def health(watched: Watched, now: float) -> tuple[bool, dict[str, Any]]:
    """Whether a restart would not help, and the state of everything, for JSON. now: of `time.monotonic`.

    A camera that is lost is no reason to restart; a thread that hangs is. "degraded": a camera is lost or too slow to
    follow objects, the last new model was not taken, or events were given up.
    """
    stuck = [camera.name for camera in watched.cameras if now - camera.ticked > camera.stuck_after]
    cameras = {}
    for camera in watched.cameras:
        figures = camera.meter.figures()
        cameras[camera.name] = {
            "state": "stuck" if camera.name in stuck else figures.state,
            "reason": figures.reason,
            "fps": round(figures.fps, 2),
            "latency_ms": {f"p{share * 100:g}": round(1000 * value, 1) for share, value in figures.latency.items()},
            "frames": figures.frames,
            "dropped": figures.dropped,
            "reconnects": figures.reconnects,
            "last_frame_seconds": None if figures.age is None else round(figures.age, 2),
            "instances": dict(figures.instances),
        }
    states = [camera["state"] for camera in cameras.values()]
    failed = any(sink.dropped + sink.failed for sink in watched.sinks)
    slow = any(camera["state"] == "live" and camera["reason"] for camera in cameras.values())
    degraded = "lost" in states or slow or watched.model.problem is not None or failed
    return not stuck, {
        "status": "stuck" if stuck else "degraded" if degraded else "ok",
        "cameras": cameras,
        "sinks": {
            sink.name: {"sent": sink.sent, "waiting": sink.waiting, "dropped": sink.dropped + sink.failed}
            for sink in watched.sinks
        },
        "model": {"swaps": watched.model.swaps, "refused": watched.model.refused, "problem": watched.model.problem},
    }


def ask(address: PageAddress, token: str | None, timeout: float = 5.0) -> tuple[bool, str]:
    """Whether the watch that serves on an address is well, and its status: for a container's health check."""
    host = THIS_MACHINE if address.host in ("0.0.0.0", "::") else address.host
    query = f"?token={quote(token, safe='')}" if token else ""
    try:
        with urllib.request.urlopen(
            f"http://{PageAddress(host, address.port)}/healthz{query}", timeout=timeout
        ) as answer:
            return True, str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        return False, f"unhealthy ({error.code})"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return False, f"no answer ({first_line(error)})"


class HealthServer:
    """Serves /healthz and /metrics until it is closed. Attributes: `url`.

    Raises PumpsegError if a package is not installed or the address cannot be served on.
    """

    def __init__(self, address: PageAddress, watched: Watched, token: str | None = None) -> None:
        self._prometheus = require("prometheus_client", extra="watch")
        self._watched = watched
        self._registry = self._prometheus.CollectorRegistry()
        self._registry.register(_Collector(watched))
        self._prometheus.ProcessCollector(registry=self._registry)
        self._server = PageServer(address, Access.to(address, token), self._answer)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def _answer(self, path: str, _query: str) -> Answer | None:
        if path == "/healthz":
            well, state = health(self._watched, monotonic())
            status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
            return Answer(json.dumps(state, indent=2).encode() + b"\n", "application/json", status)
        if path == "/metrics":
            return Answer(self._prometheus.generate_latest(self._registry), self._prometheus.CONTENT_TYPE_LATEST)
        if path == "/":
            return Answer.text("/healthz for a watchdog, /metrics for Prometheus")
        return None


class _Collector:
    """Makes the metrics when they are asked for: frames cost nothing."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"pumpseg_{name}", text, labels=labels)

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"pumpseg_{name}", text, labels=labels)

        frames = counter("frames", "Frames segmented", "camera")
        dropped = counter("dropped_frames", "Frames that a newer one replaced before their turn", "camera")
        reconnects = counter("reconnects", "Times a lost camera came back", "camera")
        fps = gauge("fps", "Frames segmented a second, over ten seconds", "camera")
        latency = gauge("latency_seconds", "Of a frame, from arrival to result, last 1000", "camera", "quantile")
        age = gauge("last_frame_age_seconds", "Since the last result", "camera")
        state = gauge("camera_state", "1 for the state that the camera is in", "camera", "state")
        instances = gauge("instances", "In the last frame", "camera", "class")
        for camera in self._watched.cameras:
            figures, name = camera.meter.figures(), camera.name
            frames.add_metric([name], figures.frames)
            dropped.add_metric([name], figures.dropped)
            reconnects.add_metric([name], figures.reconnects)
            fps.add_metric([name], figures.fps)
            for share, value in figures.latency.items():
                latency.add_metric([name, f"{share:g}"], value)
            if figures.age is not None:
                age.add_metric([name], figures.age)
            for one in STATES:
                state.add_metric([name, one], float(one == figures.state))
            for label, count in figures.instances.items():
                instances.add_metric([name, label], count)
        yield from (frames, dropped, reconnects, fps, latency, age, state, instances)

        events = counter("events", "Events of rules", "camera", "rule")
        for (name, rule), count in list(self._watched.events.items()):
            events.add_metric([name, rule], count)
        sent = counter("events_sent", "Events delivered", "sink")
        lost = counter("events_dropped", "Events given up", "sink")
        spool = gauge("spool_length", "Events that wait to be delivered", "sink")
        for sink in self._watched.sinks:
            sent.add_metric([sink.name], sink.sent)
            lost.add_metric([sink.name], sink.dropped + sink.failed)
            spool.add_metric([sink.name], sink.waiting)
        yield from (events, sent, lost, spool)

        swaps = counter("model_swaps", "Models taken without a restart")
        swaps.add_metric([], self._watched.model.swaps)
        refused = counter("models_refused", "New models that could not be used")
        refused.add_metric([], self._watched.model.refused)
        temperature = gauge("temperature_celsius", "Of the machine", "sensor")
        for sensor, celsius in temperatures():
            temperature.add_metric([sensor], celsius)
        yield from (swaps, refused, temperature)


def temperatures(folder: Path = _THERMAL) -> list[tuple[str, float]]:
    """(sensor, degrees Celsius) of every thermal zone that Linux reports; empty elsewhere."""
    found = []
    for zone in sorted(folder.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text(encoding="ascii").strip()
            celsius = int((zone / "temp").read_text(encoding="ascii")) / 1000
        except (OSError, ValueError):
            continue
        found.append((f"{zone.name.removeprefix('thermal_zone')}-{kind}", celsius))
    return found
