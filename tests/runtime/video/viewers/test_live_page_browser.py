"""The page in a real browser."""

import re
import time

import cv2
import numpy as np
import pytest
from chromium_tab import CHROMIUM, ChromiumTab
from page_client import deaf_viewers

from pumpseg import Zone, ZoneCounter


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    browser = ChromiumTab(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


PIXELS = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, v) => sum + v, 0)"


def test_a_browser_shows_the_picture_and_the_figures(make_page, show_camera, chromium, tmp_path):
    page = make_page(token="abc")
    show_camera(page, pause=0.02, zones=ZoneCounter([Zone("front-yard", [0, 0, 1, 0, 1, 1, 0, 1])]))
    chromium("Page.navigate", url=page.url)
    chromium.until("document.getElementById('state')?.textContent === 'live'")
    assert chromium.run("[canvas.width, canvas.height]") == [320, 240]
    assert chromium.run("document.getElementById('source').textContent") == "the yard"
    sums, counts, times = set(), set(), set()
    deadline = time.monotonic() + 30
    while min(len(sums), len(counts), len(times)) < 2 or "0" not in counts:
        assert time.monotonic() < deadline, (sums, counts, times)
        sums.add(chromium.run(PIXELS))
        counts.add(chromium.run("document.getElementById('count').textContent"))
        times.add(chromium.run("document.getElementById('fps').textContent"))
    assert float(chromium.run("document.getElementById('fps').textContent")) > 1
    stages = chromium.run("[...document.querySelectorAll('#stages tr')].map(row => row.innerText.split(/\\s+/))")
    assert [name for name, _ in stages] == ["wait", "letterbox", "session", "select", "zones", "draw", "write"]
    assert float(stages[0][1]) > 10
    zones = chromium.run("document.getElementById('zones-tile').innerText.split(/\\s+/)")
    assert zones[:4] == ["zones", "and", "lines", "front-yard"]
    assert re.fullmatch(r"\d+ now, \d+%", " ".join(zones[4:]))
    for width in (1280, 390):
        chromium.picture(tmp_path / f"{width}.png", width, 800)
        assert chromium.run("document.documentElement.scrollWidth <= innerWidth")
        assert cv2.imread(str(tmp_path / f"{width}.png")).std() > 10


def test_a_browser_is_refused_without_the_token_and_under_a_foreign_name(make_page, show_camera, chromium):
    page = make_page(token="abc")
    show_camera(page, pause=0.02)
    chromium("Page.navigate", url=page.url.partition("?")[0])
    chromium.until("document.body?.innerText.includes('the token is missing or wrong')")
    # Chromium takes every name below localhost for this machine, as after DNS rebinding.
    chromium("Page.navigate", url=page.url.replace("127.0.0.1", "evil.localhost"))
    chromium.until("document.body?.innerText.includes('has another host name')")


def test_a_browser_shows_that_the_run_has_ended(make_page, show_camera, chromium, stop):
    page = make_page()
    moments = show_camera(page, pause=0.02)
    chromium("Page.navigate", url=page.url)
    chromium.until("document.getElementById('state')?.textContent === 'live'")
    chromium.run(
        "window.states = []; new MutationObserver(() => states.push(document.getElementById('state').textContent))"
        ".observe(document.getElementById('state'), {childList: true})"
    )
    stop.set()
    shown = -1
    while shown < len(moments):
        shown = len(moments)
        time.sleep(0.5)
    page.close()
    chromium.until("states.includes('ended')")


def test_viewers_that_never_read_do_not_slow_the_loop_of_a_browser(make_page, show_camera, chromium):
    page = make_page()
    moments = show_camera(page)
    chromium("Page.navigate", url=page.url)
    chromium.until("document.getElementById('state')?.textContent === 'live'")

    def fps():
        before = len(moments)
        time.sleep(0.4)
        return (len(moments) - before) / 0.4

    # In turns, so that whatever else the machine does meets both alike; other programs may slow one of three tries.
    ratios = []
    for _ in range(3):
        alone, watched = [], []
        for _ in range(4):
            alone.append(fps())
            deaf = deaf_viewers(page, 4)
            watched.append(fps())
            for connection in deaf:
                connection.close()
        ratios.append(np.median(watched) / np.median(alone))
        print(f"frames a second with viewers that never read, of those without: {ratios[-1]:.2f}")
        if ratios[-1] > 0.8:
            break
    assert max(ratios) > 0.8
    assert chromium.run("document.getElementById('state').textContent") == "live"
