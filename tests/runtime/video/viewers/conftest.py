"""Pages that show a camera."""

import contextlib
import threading
import time

import numpy as np
import pytest

from pumpseg.video import Frame, Source, process
from pumpseg.video.viewers import live_page
from pumpseg.video.viewers.live_page import LivePage
from pumpseg.video.viewers.page_access import PageAddress

HERE = PageAddress("127.0.0.1", 0)


class Camera(Source):
    """A live source without end; every fourth picture holds a white square that moves, the others are dark."""

    name, live, dropped = "the yard", True, 7

    def __init__(self, pause=0.0):
        self.pause, self.over = pause, threading.Event()

    def __iter__(self):
        index = 0
        while not self.over.wait(self.pause):
            image = np.full((240, 320, 3), 20, np.uint8)
            if index // 8 % 2:
                image[40:200, index % 160 : index % 160 + 160] = 255
            yield Frame(image, self.name, index, index / 25, index, time.perf_counter())
            index += 1

    def close(self):
        self.over.set()


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def make_page(stop):
    with contextlib.ExitStack() as open_pages:

        def make(address=HERE, token=None):
            page = LivePage(address, stop, token)
            open_pages.callback(page.close)
            return page

        yield make


@pytest.fixture
def show_camera(segmenter, stop):
    """Runs the loop on a camera into a page, in a thread; gives the list of moments at which frames were done."""
    threads = []

    def run(page, pause=0.0, **more):
        moments = []
        source = Camera(pause)
        options = {"viewer": page, "stop": stop, "on_frame": lambda done: moments.append(time.perf_counter())} | more
        threads.append(threading.Thread(target=process, args=(source, segmenter.infer), kwargs=options))
        threads[-1].start()
        return moments

    yield run
    stop.set()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.fixture
def encoded(monkeypatch):
    """The indices of the frames that were encoded."""
    indices, encode = [], live_page.encode_jpeg

    def noted(result):
        indices.append(result.index)
        return encode(result)

    monkeypatch.setattr(live_page, "encode_jpeg", noted)
    return indices
