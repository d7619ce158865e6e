import base64
import dataclasses
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import av
import pytest
from counted_stream import FPS, encode, fill, numbers_in
from server_program import Server
from stamped_pictures import made_at

from pumpseg.errors import OptionError
from pumpseg.video.sources.open import open_source
from pumpseg.watch.sinks.clips import ClipSink

CAMERAS = Path(__file__).parents[2] / "video" / "cameras"


@pytest.fixture(scope="module")
def stream():
    """Four seconds with a key frame every 0.4 s."""
    return encode(100)


@pytest.fixture
def open_sink(tmp_path):
    sinks = []

    def make(**options):
        sinks.append(ClipSink(tmp_path / "clips", **{"before": 1.0, "after": 0.5, **options}))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@pytest.fixture
def serve():
    started = []

    def start(*command):
        started.append(Server(*command))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def at(event, moment):
    """The event as if its frame had arrived at a moment on the clock of perf_counter."""
    return dataclasses.replace(event, time=datetime.now(UTC) - timedelta(seconds=perf_counter() - moment))


def test_a_clip_begins_before_the_event_and_holds_its_frame(open_sink, stream, event, until):
    sink = open_sink()
    newest = perf_counter()
    fill(sink.ring("yard"), stream, newest)
    # The event is of picture 60, which arrived 39 pictures before the newest.
    event = at(event, newest - 39 / FPS)
    sink.send(event)
    assert sink.waiting == 1
    until(lambda: sink.sent == 1)
    path = sink.find(event.id)
    assert path.name.endswith(f"-yard-crowded-{event.id}.mp4")
    seen = numbers_in(path)
    # From the last key frame that is a second before it, until half a second after it.
    assert seen[0] == (0.0, 30)
    assert 71 <= seen[-1][1] <= 73
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["camera"] == "yard"
    (only,) = about["events"]
    assert (only["id"], only["rule"]) == (event.id, "crowded")
    assert only["seconds"] == pytest.approx(30 / FPS, abs=0.03)
    assert {number: seconds for seconds, number in seen}[60] == pytest.approx(only["seconds"], abs=0.03)
    begins = datetime.fromisoformat(about["begins"])
    assert (event.time - begins).total_seconds() == pytest.approx(only["seconds"], abs=0.03)


def test_overlapping_events_share_a_clip_that_is_extended(open_sink, stream, make_event, until):
    sink = open_sink(after=1.0)
    ring = sink.ring("yard")
    start = perf_counter() + 5  # the clip does not end before its packets do, however slow the machine is
    fill(ring, stream, newest=start)
    first, second = make_event(), make_event()
    sink.send(at(first, start - 0.6))
    sink.send(at(second, start - 0.2))
    # Half a second goes on beyond the end of the first.
    fill_on(ring, stream, start)
    until(lambda: sink.sent == 2)
    assert len(list(sink.folder.glob("*.mp4"))) == 1
    path = sink.find(first.id)
    events = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["events"]
    assert [event["id"] for event in events] == [first.id, second.id]
    seen = numbers_in(path)
    assert seen[-1][0] - events[1]["seconds"] == pytest.approx(1.0, abs=0.1)


def fill_on(ring, stream, start):
    """Two seconds more of the same connection."""
    for i, (data, pts, dts, is_keyframe) in enumerate(stream[1][:50]):
        later = 100 * 90_000 // FPS
        arrived = start + (i + 1) / FPS
        ring.add(data, pts + later, dts + later, is_keyframe=is_keyframe, arrived=arrived)


def test_a_clip_is_not_extended_beyond_the_limit(open_sink, stream, make_event, until):
    sink = open_sink(after=0.4, max_seconds=2.0)
    fill(sink.ring("yard"), stream, newest=perf_counter())
    first, second = make_event(), make_event()
    sink.send(at(first, perf_counter() - 1.0))
    until(lambda: list(sink.folder.glob(".live-*")) or sink.sent)
    sink.send(at(second, perf_counter() - 0.1))
    until(lambda: sink.sent == 2)
    assert sink.find(second.id) not in (None, sink.find(first.id))


def test_cameras_have_clips_of_their_own(open_sink, stream, make_event, until):
    sink = open_sink()
    for camera in ("yard", "barn"):
        fill(sink.ring(camera), stream, newest=perf_counter())
    events = [at(make_event(camera=camera), perf_counter() - 1.0) for camera in ("yard", "barn")]
    for event in events:
        sink.send(event)
    until(lambda: sink.sent == 2)
    assert len({sink.find(event.id) for event in events} - {None}) == 2


def test_a_camera_that_is_lost_leaves_the_seconds_before(open_sink, stream, event, until):
    sink = open_sink(after=0.3)
    fill(sink.ring("yard"), stream, newest=perf_counter())
    sink.send(event)
    until(lambda: sink.sent == 1)
    assert numbers_in(sink.find(event.id))[-1][1] == 99


def test_a_clip_ends_where_a_new_connection_begins(open_sink, stream, event, until):
    sink = open_sink(after=5)
    fill(sink.ring("yard"), stream, newest=perf_counter())
    sink.send(event)
    fill(sink.ring("yard"), encode(5, first=200), newest=perf_counter() + 1)
    until(lambda: sink.sent == 1)
    assert numbers_in(sink.find(event.id))[-1][1] == 99


def test_lost_packets_are_skipped_up_to_the_next_key_frame(open_sink, stream, event, until):
    sink = open_sink()
    newest = perf_counter()
    fill(sink.ring("yard"), stream, newest, keep=lambda i: i != 62 and not (80 < i < 85))
    sink.send(at(event, newest - 1.2))
    until(lambda: sink.sent == 1)
    # The ring numbers what it gets: a hole in the stream itself is copied as it is.
    assert numbers_in(sink.find(event.id))[0][1] == 40


def test_a_camera_that_sends_nothing_makes_no_clip(open_sink, event, until, caplog):
    sink = open_sink(after=0.1)
    sink.send(event)
    until(lambda: not sink.waiting)
    assert "yard sent nothing, there is no clip" in caplog.text
    assert list(sink.folder.iterdir()) == []


def test_a_stream_that_cannot_be_written_is_reported(open_sink, stream, event, until, caplog):
    sink = open_sink()
    stream_format, packets = stream
    fill(sink.ring("yard"), (dataclasses.replace(stream_format, codec="no such codec"), packets), newest=perf_counter())
    sink.send(at(event, perf_counter() - 1.0))
    until(lambda: sink.failed == 1)
    assert "cannot write" in caplog.text and not sink.waiting
    assert list(sink.folder.iterdir()) == []


def test_closing_completes_what_is_recorded(open_sink, stream, event):
    sink = open_sink(after=60)
    fill(sink.ring("yard"), stream, newest=perf_counter())
    sink.send(event)
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < 5
    assert numbers_in(sink.find(event.id))[-1][1] == 99


def test_the_oldest_clips_go(open_sink, stream, make_event, until):
    sink = open_sink(max_bytes=20_000)
    ring = sink.ring("yard")
    events = [make_event(rule=f"rule{i}") for i in range(6)]
    for count, event in enumerate(events, 1):
        fill(ring, stream, newest=perf_counter())
        sink.send(at(event, perf_counter() - 1.0))
        until(lambda count=count: sink.sent == count)
    assert sink.find(events[0].id) is None and sink.find(events[-1].id) is not None
    assert sum(path.stat().st_size for path in sink.folder.iterdir()) <= 20_000


def test_times_that_make_no_clip_are_refused(tmp_path):
    with pytest.raises(OptionError, match="is longer than 10 s"):
        ClipSink(tmp_path, before=5, after=5, max_seconds=10)
    with pytest.raises(OptionError):
        ClipSink(tmp_path, before=-1)


@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_clips_of_a_real_camera(serve, open_sink, event, until, kind):
    server = serve(sys.executable, CAMERAS / f"{kind}_camera.py", "PORT", "25")
    sink = open_sink(before=0.5, after=0.3)
    url = f"{'rtsp' if kind == 'rtsp' else 'http'}://127.0.0.1:{server.port}/camera"
    moment, made = None, 0.0
    with open_source(url, ring=sink.ring("yard")) as source:
        started = perf_counter()
        for frame in source:
            if moment is None and perf_counter() - started > 1.2:
                moment, made = frame.arrived, made_at(frame.image)
                sink.send(at(event, moment))
            if sink.sent:
                break
    path = sink.find(event.id)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [
            (float(f.pts * f.time_base), made_at(f.to_ndarray(format="bgr24"))) for f in container.decode(video=0)
        ]
    assert frames[0][1] <= made - 0.4
    (seconds,) = [seconds for seconds, stamp in frames if abs(stamp - made) < 0.002]
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["events"][0]["seconds"] == pytest.approx(seconds, abs=0.2)
    assert frames[-1][1] >= made


PLAYED = """
new Promise((done, failed) => {
    const video = document.querySelector('video')
    video.onerror = () => failed(video.error.message)
    setTimeout(() => failed('it does not play'), 20000)
    const canvas = document.createElement('canvas')
    const shown = () => {
        canvas.width = video.videoWidth, canvas.height = video.videoHeight
        const context = canvas.getContext('2d')
        context.drawImage(video, 0, 0)
        let number = 0
        for (let bit = 0; bit < 8; bit++)
            number |= (context.getImageData(canvas.width / 8 * (bit + .5), 32, 1, 1).data[0] > 127) << bit
        return number
    }
    // The picture is drawn a moment after the event.
    const seek = time => new Promise(sought => {
        video.onseeked = () => setTimeout(() => requestAnimationFrame(() => sought(shown())), 200)
        video.currentTime = time
    })
    const play = async () => {
        const duration = video.duration
        const numbers = []
        for (const time of TIMES) numbers.push(await seek(time))
        await seek(0)
        video.muted = true
        await video.play()
        await new Promise(played => { video.ontimeupdate = () => video.currentTime > 0.3 && played() })
        done({duration, numbers, width: video.videoWidth})
    }
    video.readyState >= 1 ? play() : video.onloadedmetadata = play
})
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium_tab = pytest.importorskip("chromium_tab", reason="needs pip install websockets")
    if chromium_tab.CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    browser = chromium_tab.ChromiumTab(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_clips_play_in_chromium(open_sink, event, until, tmp_path, chromium, codec):
    sink = open_sink()
    fill(sink.ring("yard"), encode(100, codec), newest=perf_counter())
    sink.send(at(event, perf_counter() - 39 / FPS))
    until(lambda: sink.sent == 1)
    path = sink.find(event.id)
    seen = numbers_in(path)
    page = tmp_path / "page.html"
    # A page may read the pixels only of what it has itself.
    clip = base64.b64encode(path.read_bytes()).decode()
    page.write_text(f"<video src='data:video/mp4;base64,{clip}'></video>", encoding="utf-8")
    chromium("Page.navigate", url=page.as_uri())
    chromium.until("document.querySelector('video') !== null")
    times = [seen[0][0] + 0.02, seen[20][0] + 0.02, seen[5][0] + 0.02]
    played = chromium.run(PLAYED.replace("TIMES", str(times)))
    assert played["duration"] == pytest.approx(len(seen) / FPS, abs=0.05)
    assert played["numbers"] == [seen[0][1], seen[20][1], seen[5][1]]
