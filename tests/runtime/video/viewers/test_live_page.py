"""The page, seen by WebSocket clients; test_live_page_browser.py has a real browser."""

import contextlib
import json
import os
import re
import socket
import sys
import time

import numpy as np
import pytest
from page_client import deaf_viewers, fetch, next_frame, watch
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from pumpseg import Zone, ZoneCounter
from pumpseg.errors import PumpsegError
from pumpseg.instances import UNCONFIRMED
from pumpseg.video.viewers import live_page, page_server
from pumpseg.video.viewers.live_page import UNSHOWN_PICTURES
from pumpseg.video.viewers.page_access import PageAddress


@pytest.fixture
def view(make_result):
    """A result that can be shown."""

    def make(index=0, size=(64, 96), **more):
        seconds = {"wait": 0.002, "session": 0.004}
        frame = np.full((*size, 3), index % 256, np.uint8)
        return make_result(frame, index, 100 * index, stage_seconds=seconds, **more)

    return make


def test_what_is_answered(make_page):
    page = make_page(token="let me&in")
    status, html, headers = fetch(page.url)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "connect-src ws://127.0.0.1:" in headers["Content-Security-Policy"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|src=|@import|url\(", html)
    base = page.url.partition("?")[0]
    assert fetch(page.url.replace("/?", "/other?"))[0] == 404
    for url in (base, f"{base}?token=guess", f"{base}live"):
        assert fetch(url)[:2] == (
            403,
            "the token is missing or wrong: open the full address that was printed\n",
        )
    assert fetch(page.url, Host="evil.example")[0] == 403
    with pytest.raises(InvalidStatus, match="403"):
        watch(page, additional_headers={"Origin": "http://evil.example"})
    with watch(page):
        pass


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "PUT"])
def test_only_get_is_answered(make_page, method):
    page = make_page()
    host, port = page.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{method} / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"200 OK" not in answer
    assert b"<html" not in answer


def test_silent_connections_are_capped_and_cut(make_page, monkeypatch, view):
    monkeypatch.setattr(page_server, "REQUEST_SECONDS", 1)
    page = make_page()
    host, port = page.url.split("/")[2].split(":")
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208
    with contextlib.ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(200)]
        if before:
            end = time.monotonic() + 20
            while (served := len(os.listdir("/proc/self/fd")) - before - len(silent)) <= 0:  # noqa: PTH208
                assert time.monotonic() < end
            assert served < 100
        for connection in silent:
            connection.settimeout(20)
            with contextlib.suppress(ConnectionError):
                assert b"200 OK" not in connection.recv(4096)
    with watch(page) as viewer:
        page.show(view())
        next_frame(viewer)


def test_an_address_that_cannot_be_served_on(make_page):
    page = make_page()
    taken = PageAddress("127.0.0.1", int(page.url.split(":")[2].strip("/")))
    with pytest.raises(PumpsegError, match=rf"^cannot serve the page on {taken}: Address already in use$"):
        make_page(taken)
    with pytest.raises(PumpsegError, match=r"^cannot serve the page on 192.0.2.7:0: "):
        make_page(PageAddress("192.0.2.7", 0))
    with pytest.raises(PumpsegError, match=r"^cannot serve the page on no\.such\.host\.invalid:0: "):
        make_page(PageAddress("no.such.host.invalid", 0))
    with pytest.raises(PumpsegError, match=r"^cannot serve the page on x+:0: "):
        make_page(PageAddress("x" * 70, 0))


def test_a_viewer_gets_pictures_and_figures(make_page, show_camera):
    page = make_page()
    show_camera(page, pause=0.01)
    with watch(page) as viewer:
        frames = [next_frame(viewer) for _ in range(40)]
    indices = [figures["frame"] for figures, _ in frames]
    assert indices == sorted(set(indices))
    counts = {sum(figures["counts"].values()) for figures, _ in frames}
    assert len(counts) > 1
    last = frames[-1][0]
    assert (last["source"], last["dropped"], last["distinct"], last["viewers"]) == ("the yard", 7, None, 1)
    assert 0 < last["fps"] < 110
    assert list(last["stages"]) == ["wait", "letterbox", "session", "select", "draw", "write"]
    assert last["stages"]["wait"] > 5
    for figures, picture in frames:
        assert picture.shape == (240, 320, 3)
        # What was found is drawn in colour on a picture without any.
        assert (np.ptp(picture, axis=2).max() > 60) == bool(figures["counts"])


def test_nothing_is_encoded_while_nobody_watches_and_once_for_all_who_do(make_page, show_camera, encoded):
    page = make_page()
    moments = show_camera(page, pause=0.005)
    while len(moments) < 20:
        time.sleep(0.01)
    assert encoded == []
    with watch(page) as one, watch(page) as other:
        for _ in range(20):
            next_frame(one), next_frame(other)
    assert len(encoded) == len(set(encoded)) >= 20


def test_a_slow_viewer_gets_the_newest(make_page, view):
    page = make_page()
    with watch(page) as viewer:
        for index in range(200):
            page.show(view(index))
            time.sleep(0.001)
        seen = [json.loads(viewer.recv())["frame"]]
        viewer.recv()
        while seen[-1] < 199:
            viewer.send("")
            seen.append(json.loads(viewer.recv(timeout=20))["frame"])
            viewer.recv()
    assert len(seen) <= UNSHOWN_PICTURES + 1
    assert seen[-1] == 199


def test_large_pictures_are_scaled_and_a_trackers_ids_are_counted(make_page, view, make_instances):
    page = make_page()
    with watch(page) as viewer:
        for index, ids in enumerate(([1, 2], [2, 3], [2, UNCONFIRMED])):
            count = len(ids)
            found = make_instances((1600, 2400), [(10, 10, 50, 50)] * count).with_track_ids(np.int64(ids))
            page.show(view(index, (1600, 2400), instances=found))
            figures, picture = next_frame(viewer)
            assert figures["counts"] == {"pumpkin": count}
    assert figures["distinct"] == 3
    assert figures["zones"] == figures["lines"] == {}
    assert picture.shape == (853, 1280, 3)


def test_a_viewer_gets_the_counts_of_zones(make_page, make_instances, view):
    page = make_page()
    instances = make_instances((64, 96), [(0, 0, 20, 20)]).with_track_ids(np.array([4]))
    counts = ZoneCounter([Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1])]).update(instances, 0.0)
    with watch(page) as viewer:
        page.show(view(instances=instances, counts=counts))
        figures, _ = next_frame(viewer)
    assert figures["zones"]["left"]["count"] == 1
    assert figures["zones"]["left"]["track_ids"] == [4]


def test_the_end_reaches_all_viewers_even_those_who_wait(make_page, view):
    page = make_page()
    page.show(view())
    with watch(page) as waiting, watch(page):
        next_frame(waiting)
        start = time.monotonic()
        page.close()
        assert time.monotonic() - start < 10
        with pytest.raises(ConnectionClosedOK):
            waiting.recv(timeout=20)


def test_a_still_stays_for_a_while(make_page, stop, monkeypatch, view):
    monkeypatch.setattr(live_page, "STILL_SECONDS", 0.2)
    page = make_page()
    start = time.perf_counter()
    page.show(view(), float("inf"))
    assert time.perf_counter() - start >= 0.19
    stop.set()
    page.show(view(), time.perf_counter() + 60)
    assert time.perf_counter() - start < 10


def test_viewers_that_never_read_cost_nothing(make_page, show_camera, encoded):
    page = make_page()
    moments = show_camera(page, pause=0.005)
    deaf = deaf_viewers(page, 5)
    while len(moments) < 150:
        time.sleep(0.01)
    assert 1 <= len(encoded) <= UNSHOWN_PICTURES * len(deaf)
    for connection in deaf:
        connection.close()
