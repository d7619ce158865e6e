"""The page in a real browser: headless Chromium, steered by its DevTools protocol."""

import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time

import cv2
import numpy as np
import pytest
from page_client import deaf_viewers, fetch
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """A tab of a headless browser."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [
                *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stderr:
            if "DevTools listening on" in line:
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        port = line.split("/")[2].split(":")[1]
        tab = next(tab for tab in json.loads(fetch(f"http://127.0.0.1:{port}/json/list")[1]) if tab["type"] == "page")
        self.opened = contextlib.ExitStack()
        address = tab["webSocketDebuggerUrl"]
        self.devtools = self.opened.enter_context(connect(address, max_size=None, compression=None))
        self.asked = 0

    def __call__(self, method, **parameters):
        self.asked += 1
        self.devtools.send(json.dumps({"id": self.asked, "method": method, "params": parameters}))
        while (answer := json.loads(self.devtools.recv(timeout=30))).get("id") != self.asked:
            pass
        return answer["result"]

    def run(self, script):
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script):
        deadline = time.monotonic() + 30
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, (script, self.run("document.body.innerText"))
            time.sleep(0.05)
        return value

    def picture(self, path, width, height, scale=1):
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **size)
        self.until("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def close(self):
        self.opened.close()
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


PIXELS = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, v) => sum + v, 0)"


def test_a_browser_shows_the_picture_and_the_figures(make_page, show_camera, chromium, tmp_path):
    page = make_page(token="abc")
    show_camera(page, pause=0.02)
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
    assert [name for name, _ in stages] == ["wait", "letterbox", "session", "select", "draw", "write"]
    assert float(stages[0][1]) > 10
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
