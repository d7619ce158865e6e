"""Audio that comes from a URL, apart from the picture."""

import socket
import threading
from fractions import Fraction

import av
import pytest

from pumpseg.errors import SinkError
from pumpseg.video.sinks.video import VideoSink
from pumpseg.video.sources import container
from pumpseg.video.sources.frame_source import VideoTiming


@pytest.fixture
def stalls(tmp_path, make_clip, monkeypatch):
    """A server that sends half of a clip with sound, or nothing, and then no more; gives the address."""
    monkeypatch.setattr(container, "OPEN_SECONDS", 1.0)
    monkeypatch.setattr(container, "READ_SECONDS", 1.0)
    clip = make_clip(tmp_path / "sound.mp4", frames=250, audio="aac", faststart=True).read_bytes()
    started = []

    def start(share):
        server = socket.create_server(("127.0.0.1", 0))
        started.append(server)

        def answer():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                started.append(client)
                client.recv(4096)
                if share:
                    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(clip))
                    client.sendall(clip[: int(share * len(clip))])

        threading.Thread(target=answer, daemon=True).start()
        return f"http://user:secret@127.0.0.1:{server.getsockname()[1]}/secret/sound.mp4"

    yield start
    for one in started:
        one.close()


def in_time(action):
    """Run an action in a thread, so that one that hangs fails the test; gives what it raised."""
    raised = []

    def run():
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return raised[0] if raised else None


def sink_of(tmp_path, url):
    return VideoSink(tmp_path / "out.mp4", VideoTiming(Fraction(1, 1000), Fraction(25)), url)


def test_sound_that_never_answers_is_an_error_without_secrets(stalls, tmp_path, make_result, square_frame):
    url = stalls(0)
    with sink_of(tmp_path, url) as sink:
        error = in_time(lambda: sink.write(make_result(square_frame, 0, 0)))
    assert isinstance(error, SinkError)
    assert str(error).startswith(
        f"cannot read the audio of http://127.0.0.1:{url.split(':')[3].split('/')[0]}/.../sound"
    )
    assert "secret" not in str(error)


def test_sound_whose_connection_stalls_ends_early(stalls, tmp_path, make_result, square_frame, caplog):
    def record():
        with sink_of(tmp_path, stalls(0.5)) as sink:
            for index in range(250):
                sink.write(make_result(square_frame, index, 40 * index))

    assert in_time(record) is None
    assert "the audio ends early" in caplog.text
    with av.open(str(tmp_path / "out.mp4")) as saved:
        assert saved.streams.video[0].frames == 250
        assert 0 < saved.streams.audio[0].frames < 150
