import contextlib
import functools
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import container as container_module
from pumpseg.video.sources.capture import StreamCapture
from pumpseg.video.sources.container import film, is_url, open_container, reason
from pumpseg.video.sources.open import open_source
from pumpseg.video.sources.video_file import key_frames


def test_what_is_a_url():
    assert [is_url(name) for name in ("rtsp://cam", "HTTP://x/y.mp4", "file.mp4", "c:/x.mp4", "file:///x")] == [
        *(True, True),
        *(False, False, False),
    ]


@pytest.mark.parametrize("name", ["12:30:05.mp4", "pipe:1.mp4", "concat:a.mp4", "http:b.mp4", "cache:c.mp4"])
def test_a_path_is_a_file_whatever_its_name(tmp_path, clip, monkeypatch, name):
    (tmp_path / name).write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    for location in (name, Path(name)):
        with open_container(location) as container:
            assert film(container).frames == 20


@pytest.fixture
def site(tmp_path):
    """A server of the test's folder "site"; /to/URL redirects to that URL. Gives its address."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith("/to/"):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return None

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def frames_of(url):
    """Frames of a URL, none if it does not open."""
    with contextlib.suppress(av.FFmpegError, OSError), open_container(url, timeout=5) as container:
        return 0 if film(container) is None else sum(1 for _ in container.decode(film(container)))
    return 0


def playlist(path, segment):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.8,\n{segment}\n#EXT-X-ENDLIST\n")


def test_a_url_leads_to_no_file_and_to_no_other_scheme(site, tmp_path, make_clip):
    folder, address = site
    secret, public = make_clip(tmp_path / "secret.ts"), make_clip(folder / "public.ts")
    playlist(folder / "good.m3u8", "public.ts")
    playlist(folder / "bad.m3u8", f"file://{secret}")
    (folder / "bad.ffconcat").write_text(f"ffconcat version 1.0\nfile 'file:{secret}'\n")
    assert frames_of(f"{address}/to/{address}/{public.name}") == 20
    assert frames_of(f"{address}/good.m3u8") == 20
    assert frames_of(f"{address}/bad.m3u8") == 0
    assert frames_of(f"{address}/bad.ffconcat") == 0
    for target in (f"file://{secret}", f"file:{secret}", f"ftp://127.0.0.1{secret}", f"rtsp://127.0.0.1:9{secret}"):
        assert frames_of(f"{address}/to/{target}") == 0


def test_a_file_leads_to_no_url(site, tmp_path, make_clip):
    folder, address = site
    make_clip(folder / "public.ts")
    playlist(tmp_path / "list.m3u8", f"{address}/public.ts")
    assert frames_of(tmp_path / "list.m3u8") == 0


def test_a_title_in_another_character_set(tmp_path, make_clip):
    clip = make_clip(tmp_path / "old.avi")
    content = clip.read_bytes()
    assert b"ISFT" in content
    place = content.index(b"ISFT") + 8
    clip.write_bytes(content[:place] + b"Kurbis\xfc" + content[place + 7 :])
    with open_container(clip) as container:
        assert film(container) is not None


def join(target, *clips, attached=None):
    """A file of the film of each clip; attached: the number of the one that is marked as a cover picture."""
    with contextlib.ExitStack() as opened:
        sources = [opened.enter_context(av.open(str(clip))) for clip in clips]
        container = opened.enter_context(av.open(str(target), "w"))
        copies = [container.add_stream_from_template(source.streams.video[0]) for source in sources]
        if attached is not None:
            copies[attached].disposition = av.stream.Disposition.attached_pic
        for source, copy in zip(sources, copies, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    container.mux(packet)
    return target


@pytest.mark.parametrize("still_size", [(48, 64), (320, 320)])
@pytest.mark.parametrize(("suffix", "attached"), [(".mp4", 0), (".mkv", None)])
def test_a_cover_or_poster_is_not_the_film(tmp_path, make_clip, clip, still_size, suffix, attached):
    still = make_clip(tmp_path / "still.mov", 1, still_size, codec="mjpeg", pix_fmt="yuvj420p")
    with open_container(join(tmp_path / f"covered{suffix}", still, clip, attached=attached)) as container:
        assert (film(container).width, film(container).height) == (96, 64)


def test_of_two_films_the_larger_is_taken(tmp_path, make_clip, clip):
    """Surveillance recorders write a small preview before the full stream."""
    small = make_clip(tmp_path / "small.mp4", size=(48, 64))
    with open_container(join(tmp_path / "both.mkv", small, clip)) as container:
        assert film(container).width == 96


def test_a_file_of_sound_and_a_cover_has_no_film(tmp_path, make_clip):
    still = make_clip(tmp_path / "still.mov", 1, codec="mjpeg", pix_fmt="yuvj420p")
    with open_container(join(tmp_path / "song.mp4", still, attached=0)) as container:
        assert film(container) is None


def test_key_frames_are_those_of_the_film(tmp_path, make_clip, clip):
    still = make_clip(tmp_path / "still.mov", 1, codec="mjpeg", pix_fmt="yuvj420p")
    covered = join(tmp_path / "covered.mp4", still, clip, attached=0)
    assert [number for number, _ in key_frames(covered)] == [number for number, _ in key_frames(clip)] == [0, 10]


@pytest.fixture
def silent():
    """The URL of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.mp4"


def test_a_server_that_says_nothing_is_described(silent, monkeypatch):
    monkeypatch.setattr(container_module, "OPEN_SECONDS", 0.2)
    with pytest.raises(av.FFmpegError) as raised:
        open_container(silent)
    assert reason(raised.value) == "nothing was received for 10 s"


PRESSED = """
import os, signal, sys, threading, time
from pumpseg.video.sources.container import open_container
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
before = time.monotonic()
try:
    open_container(sys.argv[1])
except KeyboardInterrupt:
    print("at once" if time.monotonic() - before < 5 else "late")  # libav gives up after 10
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows waits for locks without a look at signals")
def test_ctrl_c_ends_the_wait_for_a_server(silent):
    command = [sys.executable, "-c", PRESSED, silent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "at once", "")


def jpeg(width, height):
    """A small JPEG that announces another size."""
    content = bytearray(cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def test_frames_that_announce_too_many_pixels_are_not_decoded(tmp_path):
    path = tmp_path / "huge.mjpeg"
    path.write_bytes((jpeg(64, 64) + jpeg(9000, 9000)) * 3)
    assert [frame.image.shape for frame in open_source(path)] == [(64, 64, 3)] * 3


@pytest.mark.parametrize("codec", ["rawvideo", "ffv1"])
def test_a_video_of_too_large_frames_is_one_line(tmp_path, make_clip, codec):
    path = make_clip(tmp_path / "huge.avi", codec=codec)
    usual, huge = struct.pack("<II", 96, 64), struct.pack("<II", 9000, 9000)
    path.write_bytes(path.read_bytes().replace(usual, huge))
    with pytest.raises(SourceError, match=r"huge\.avi has no frame .* or they have more than 67,108,864 pixels"):
        list(open_source(path))


def test_a_camera_of_too_large_frames_is_one_line(tmp_path):
    path = tmp_path / "huge.mjpeg"
    path.write_bytes(jpeg(9000, 9000) * 110)
    with (
        open_container(path) as container,
        pytest.raises(SourceError, match=r"cannot be decoded .* at most 67,108,864"),
    ):
        StreamCapture(container).read()
