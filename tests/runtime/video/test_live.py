"""Real streams: servers on loopback, in processes of their own so that they can be killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from server_program import Server
from stamped_pictures import SIZE, made_at, stamped_picture

from pumpseg.errors import SinkError, SourceError
from pumpseg.video import process, stream
from pumpseg.video.sinks.open import Outputs, open_sinks
from pumpseg.video.sources import camera, capture
from pumpseg.video.sources.capture import StreamCapture, open_url
from pumpseg.video.sources.open import open_source
from pumpseg.video.sources.video_file import BgrConverter, VideoSource

HERE = Path(__file__).parent / "cameras"
FPS = 12


@pytest.fixture
def serve():
    started = []

    def start(*command):
        started.append(Server(*command))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(params=["mjpeg", "rtsp"])
def live(request, serve):
    """(server, URL) of a camera that makes FPS frames a second."""
    server = serve(sys.executable, HERE / f"{request.param}_camera.py", "PORT", FPS)
    url = f"{'http' if request.param == 'mjpeg' else 'rtsp'}://127.0.0.1:{server.port}/camera"
    return server, url


@pytest.fixture(autouse=True)
def quick_to_reconnect(monkeypatch):
    monkeypatch.setattr(camera, "FIRST_DELAY", 0.1)


def test_a_camera_is_segmented_live(live, segmenter, tmp_path):
    _, url = live
    source = open_source(url)
    assert source.live
    with open_sinks(source, Outputs(save=tmp_path / "out.mp4", json_lines=tmp_path / "out.jsonl")) as sinks:
        summary = process(source, segmenter.infer, sinks, limit=10)
    assert (summary.frames, summary.reconnects) == (10, 0)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(record["instances"] for record in records)
    times = [record["time"] for record in records]
    assert times == sorted(times)
    assert times[0] == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 10
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx(times, abs=0.002)
    assert 0 < summary.latency.median < 5000


def test_killing_and_restarting_the_server_makes_the_run_reconnect(live, segmenter, caplog):
    server, url = live
    source = open_source(url)
    seen, after = 0, 0
    with caplog.at_level("INFO", "pumpseg"):
        for result in stream(source, segmenter.infer):
            seen += 1
            if seen == 5:
                server.stop()
                threading.Timer(0.5, server.start).start()
            if source.reconnects:
                # The picture is a new one, not what lay in a buffer.
                assert time.time() - made_at(result.frame) < 5
                after += 1
            if after == 5:
                break
    messages = [message.partition("camera ")[2] for message in caplog.messages if "camera " in message]
    assert any(message.startswith("is lost: ") for message in messages)
    assert any(message.startswith("is back after ") for message in messages)
    assert source.reconnects == 1


def test_a_server_that_stays_away_ends_the_run_with_what_was_written_intact(live, segmenter, tmp_path):
    server, url = live
    source = open_source(url, reconnect_timeout=0.3)
    outputs = Outputs(save=tmp_path / "out.mp4", json_lines=tmp_path / "out.jsonl")
    lost = r"is lost and did not come back within 0\.3 s.*saved: \d+ frames before that"
    with pytest.raises(SourceError, match=lost), open_sinks(source, outputs) as sinks:
        process(source, segmenter.infer, sinks, on_frame=lambda done: done == 4 and server.stop())
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = len(list(container.decode(video=0)))
    assert 4 <= frames == len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.mp4"]


class SlowInference:
    """Inference that takes `seconds` more for every frame, and notes how long each took in all."""

    def __init__(self, segmenter, seconds):
        self._segmenter, self._seconds = segmenter, seconds
        self.took = []

    def __call__(self, frame):
        start = time.perf_counter()
        time.sleep(self._seconds)
        result = self._segmenter.infer(frame)
        self.took.append(time.perf_counter() - start)
        return result


def measured_latency(url, infer, count, slow_consumer=0.0):
    """Seconds from a frame's making to its handing out, less those of its inference, of `count` frames."""
    ages = []
    source = open_source(url)
    for result in stream(source, infer):
        ages.append(time.time() - made_at(result.frame) - infer.took[result.index])
        time.sleep(slow_consumer)
        if len(ages) == count + 3:
            break
    assert source.dropped > count / 2
    # The first ones came while the stream was being opened.
    return np.array(ages[3:])


def once_in_three(measure, is_bounded):
    """Whether a measurement keeps within bounds: other programs may delay it, but cannot make it better."""
    for _ in range(3):
        ages = measure()
        print(f"latency beyond inference, in frames: median {np.median(ages) * FPS:.2f}, longest {max(ages) * FPS:.2f}")
        if is_bounded(ages):
            return True
    return False


def test_latency_stays_bounded_while_inference_is_slower_than_the_camera(live, segmenter):
    _, url = live

    def is_bounded(ages):
        # It does not creep up.
        return np.median(ages) * FPS < 2 and np.median(ages[-8:]) < np.median(ages[:8]) + 1 / FPS

    assert once_in_three(lambda: measured_latency(url, SlowInference(segmenter, 2.5 / FPS), 25), is_bounded)


@pytest.mark.alone
def test_no_latency_reaches_two_frames(live, segmenter):
    _, url = live
    # Half a frame of waiting on average, not quite one at most; and with H.264 over RTP, which does not say where a
    # picture ends, one more until the next begins.

    def measure():
        return measured_latency(url, SlowInference(segmenter, 2.5 / FPS), 25)

    assert once_in_three(measure, lambda ages: max(ages) * FPS < 2)


def test_a_slow_consumer_gets_no_old_results(live, segmenter):
    _, url = live
    slow = 3 / FPS

    def measure():
        return measured_latency(url, SlowInference(segmenter, 0.5 / FPS), 12, slow_consumer=slow)

    # One result may wait while the one before is consumed, none behind it.
    assert once_in_three(measure, lambda ages: np.median(ages) < slow + 2 / FPS)


class SlowConverter(BgrConverter):
    def __call__(self, decoded):
        time.sleep(0.06)
        return super().__call__(decoded)


def test_a_stream_that_is_decoded_too_slowly_is_caught_up_with(serve, monkeypatch, caplog):
    server = serve(sys.executable, HERE / "mjpeg_camera.py", "PORT", 60)
    monkeypatch.setattr(capture, "BEHIND_SECONDS", 0.2)
    monkeypatch.setattr(capture, "BgrConverter", SlowConverter)
    one = StreamCapture(open_url(f"http://127.0.0.1:{server.port}/camera"))
    ages = []
    with caplog.at_level("INFO", "pumpseg"):
        while len(ages) < 60:
            ages.append(time.time() - made_at(one.read()[0]))
    one.close()
    assert sum("skipped to catch up" in message for message in caplog.messages) == 1
    assert one.skipped > 0
    assert max(ages[-20:]) < 3


def test_a_finite_file_behind_a_url_is_a_file(serve, tmp_path, make_clip, square_frame, make_result):
    make_clip(tmp_path / "clip.mp4", audio="aac")
    cv2.imwrite(str(tmp_path / "still.jpg"), square_frame)
    server = serve(
        sys.executable,
        "-uc",
        "import http.server, os, sys; os.chdir(sys.argv[2]);"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])),"
        " http.server.SimpleHTTPRequestHandler);"
        "print('listening'); sys.stderr = open(os.devnull, 'w'); server.serve_forever()",
        "PORT",
        tmp_path,
    )
    source = open_source(f"http://127.0.0.1:{server.port}/clip.mp4")
    assert isinstance(source, VideoSource)
    assert not source.live
    assert [frame.index for frame in source] == list(range(20))
    source.close()
    assert source.audio == f"http://127.0.0.1:{server.port}/clip.mp4"
    (still,) = open_source(f"http://127.0.0.1:{server.port}/still.jpg")
    assert still.image.shape == square_frame.shape
    snapshot = open_source(f"http://127.0.0.1:{server.port}/still.jpg")
    with pytest.raises(SinkError, match=r"into .*: name an image file, such as .*snapshot\.png"):
        open_sinks(snapshot, Outputs(save=tmp_path))
    with open_sinks(snapshot, Outputs(save=tmp_path / "marked.png")) as sinks:
        for frame in snapshot:
            sinks.write(make_result(frame.image))
    assert cv2.imread(str(tmp_path / "marked.png")).shape == square_frame.shape
    whole = make_clip(tmp_path / "whole.mp4", frames=40, faststart=True).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"cut\.mp4 is cut short: it ends after frame \d+ of 40"):
        list(open_source(f"http://127.0.0.1:{server.port}/cut.mp4"))
    with pytest.raises(SourceError, match="cannot be opened: "):
        open_source(f"http://127.0.0.1:{server.port}/none.mp4")


def test_nobody_answers():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for kind in ("rtsp", "http"):
        with pytest.raises(SourceError, match=rf"^{kind}://127\.0\.0\.1:{port}/x cannot be opened: \w"):
            open_source(f"{kind}://me:secret@127.0.0.1:{port}/x")


def gstreamer():
    """A Python that can run GStreamer's RTSP server, or None."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    for python in ("/usr/bin/python3", sys.executable):
        if Path(python).exists() and subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
            return python
    return None


def test_another_server(serve, segmenter, tmp_path):
    python = gstreamer()
    if python is None:
        pytest.skip("GStreamer's RTSP server is not installed (python3-gi, gir1.2-gst-rtsp-server-1.0)")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "10"})
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        for i in range(50):
            container.mux(video.encode(av.VideoFrame.from_ndarray(stamped_picture(i / 25), format="bgr24")))
        container.mux(video.encode())
    server = serve(python, HERE / "gst_camera.py", "PORT", clip)
    source = open_source(f"rtsp://127.0.0.1:{server.port}/camera")
    # The clip ends after two seconds; the server plays it again for every client.
    frames = []
    for result in stream(source, segmenter.infer):
        assert result.frame.shape == (*SIZE, 3)
        assert len(result.instances)
        frames.append(source.reconnects)
        if frames[-1]:
            break
    assert len(frames) > 10


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_the_command_on_a_camera_ends_well_at_a_signal(serve, model_path, tmp_path):
    server = serve(sys.executable, HERE / "rtsp_camera.py", "PORT", FPS)
    command = [sys.executable, "-m", "pumpseg.cli.video", f"rtsp://me:secret@127.0.0.1:{server.port}/camera"]
    command += ["--no-show", "--model", str(model_path), "--json", "-", "--save", str(tmp_path / "out.mp4")]
    command += ["--stats", str(tmp_path / "stats.json")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [json.loads(run.stdout.readline()) for _ in range(5)]
    run.send_signal(signal.SIGTERM)
    rest, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "secret" not in err + rest
    assert "320x240 at 12 fps, h264" in err
    assert lines[0]["source"].startswith("rtsp://127.0.0.1")
    frames = len(lines) + len(rest.splitlines())
    stats = json.loads((tmp_path / "stats.json").read_text(encoding="utf-8"))
    assert (stats["frames"], stats["interrupted"]) == (frames, True)
    assert stats["latency"]["median"] > 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == frames


def test_a_recording_outlives_the_reader_of_its_results_and_a_kill(serve, model_path, tmp_path):
    server = serve(sys.executable, HERE / "mjpeg_camera.py", "PORT", FPS)
    url = f"http://127.0.0.1:{server.port}/camera"
    command = [sys.executable, "-m", "pumpseg.cli.video", url, "--model", model_path, "--no-show", "--save", "rec.mp4"]

    def start(*options):
        return subprocess.Popen(
            [*command, "--json", "-", *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with start("--limit", "20") as run:
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read().splitlines()
    assert run.returncode == 1
    assert said[-1] == "pumpseg-video: error: cannot write standard output: Broken pipe; kept: rec.mp4"
    assert frames_in(tmp_path / "rec.mp4") == 20

    with start() as run:
        for _ in range(5 * FPS):
            run.stdout.readline()
        run.kill()
    with start("--limit", "1") as run:
        said = run.communicate()[1]
    assert "an unfinished recording of rec.mp4 was found: it is now rec.recovered-1.mp4" in said.replace(
        f"{tmp_path}/", ""
    )
    assert frames_in(tmp_path / "rec.recovered-1.mp4") >= 3 * FPS
    assert frames_in(tmp_path / "rec.mp4") == 1


def frames_in(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_a_flood_is_bounded_and_still_shows_pictures(serve):
    server = serve(sys.executable, HERE / "bad_camera.py", "PORT", "flood")
    with open_source(f"http://127.0.0.1:{server.port}/camera") as source:
        frames = iter(source)
        next(frames)
        start, before = time.perf_counter(), source.dropped
        taken = 0
        while time.perf_counter() - start < 2:
            next(frames)
            taken += 1
        assert 3 <= taken <= 3 * capture.MAX_RATE
        # They were read all the same: it is no queue that grows.
        assert source.dropped - before > taken
