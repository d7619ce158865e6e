"""A mosquitto broker on loopback, and a client that listens to it."""

import os
import shutil
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest

MOSQUITTO = shutil.which(
    "mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
)
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="needs the broker: apt-get install mosquitto")


class Broker:
    """Keeps sessions and retained messages over a restart. lines: more of its configuration file."""

    def __init__(self, folder, *lines):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self._folder, self._config = folder, folder / "mosquitto.conf"
        lines = lines or ("allow_anonymous true",)
        # As root mosquitto becomes another user, who cannot write into the folder of a test.
        user = ["user root"] if os.name == "posix" and os.geteuid() == 0 else []
        own = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", *user]
        self._config.write_text("\n".join([*own, *lines, ""]), encoding="utf-8")
        self._process = None
        self.start()

    def start(self):
        log = (self._folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdout=log, stderr=log)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)

    def stop(self, kill=False):
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(10)
            self._process = None


class Listener:
    """Collects (topic, payload, retained) of all topics; its session lasts over lost connections."""

    def __init__(self, port, topic="#", user=None, password=None, tls_context=None, name="listener"):
        self.messages = []
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        if user is not None:
            self._client.username_pw_set(user, password)
        if tls_context is not None:
            self._client.tls_set_context(tls_context)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _, __, m: self.messages.append((m.topic, m.payload, m.retain))
        self._client.connect("localhost" if tls_context else "127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def payloads(self, topic):
        return [payload for seen, payload, _ in list(self.messages) if seen == topic]

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()
