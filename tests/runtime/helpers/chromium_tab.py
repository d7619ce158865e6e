"""A headless Chromium, steered by its DevTools protocol."""

import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time

from page_client import fetch
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class ChromiumTab:
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
