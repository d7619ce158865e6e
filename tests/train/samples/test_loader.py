"""Batches drawn ahead: each depends on the seed and its number only."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import cv2
import psutil
import pytest

from pumpseg.errors import DatasetError, PumpsegError
from pumpseg_train.samples import batches as batch_module
from pumpseg_train.samples.loader import one_opencv_thread


def content(batch):
    return {name: array.tobytes() for name, array in batch[0].items()}


def test_a_batch_follows_from_seed_epoch_and_step_alone(make_batches):
    batches = make_batches()
    assert len(batches) == 3
    in_order = [content(batches[step]) for step in range(3)]
    again = make_batches()
    assert [content(again[step]) for step in (2, 0, 1)] == [in_order[2], in_order[0], in_order[1]]
    assert len({batch["image"] for batch in in_order}) == 3
    assert content(make_batches(seed=2)[0]) != in_order[0]


def test_epochs_go_on_where_the_last_one_ended(make_batches):
    long, short = make_batches(steps=6), make_batches(steps=3)
    short.epoch = 1
    assert content(short[2]) == content(long[5])
    assert content(short[0]) != content(make_batches(steps=3)[0])


def test_processes_draw_the_same_and_end_with_the_batches(make_batches):
    threads = make_batches()
    with make_batches(processes=2) as batches:
        assert [content(batches[step]) for step in range(3)] == [content(threads[step]) for step in range(3)]
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        # Ctrl-C reaches them too, but is for the training.
        os.kill(workers[0].pid, signal.SIGINT)
        batches.epoch = 1
        assert batches[0]
    assert not [process for process in workers if process.is_alive()]


def test_a_killed_process_is_reported(make_batches):
    with make_batches(processes=1, steps=50) as batches:
        assert batches[0]
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PumpsegError, match="use fewer --workers"):
            for step in range(1, 50):
                batches[step]


KILLED = """
import multiprocessing, os, sys
from pathlib import Path
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.samples.sources import load_sources
from pumpseg_train.samples.batches import BatchSampler
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples.loader import Batches

if __name__ == "__main__":
    sources = load_sources(read_dataset(Path(sys.argv[1]), "train"))
    sampler = BatchSampler(sources, AugmentationConfig(), 96, 127, batch_size=2, seed=1)
    Batches(sampler, steps=3, processes=1)[0]
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_training_that_is_killed_leaves_no_process_behind(fruit, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script, fruit], capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    until = time.monotonic() + 20
    while runs(pid):
        assert time.monotonic() < until
        time.sleep(0.1)


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_waiting_counts_what_was_not_ready(make_batches, monkeypatch):
    batches = make_batches(steps=3)
    draw = batch_module.draw_sample

    def slowly(*arguments):
        time.sleep(0.1)
        return draw(*arguments)

    monkeypatch.setattr(batch_module, "draw_sample", slowly)
    batches[0]
    assert batches.wait_seconds > 0.15, "two samples at 0.1 s each"
    time.sleep(1)
    before = batches.wait_seconds
    batches[1]
    assert batches.wait_seconds < before + 0.05, "drawn ahead"


def test_an_error_while_drawing_ahead_reaches_who_asks(make_batches, monkeypatch):
    def fail(*_):
        raise DatasetError("a photo is damaged")

    monkeypatch.setattr(batch_module, "draw_sample", fail)
    with pytest.raises(DatasetError, match="a photo is damaged"):
        make_batches()[0]


def test_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError), one_opencv_thread():
        assert cv2.getNumThreads() == 1
        raise ZeroDivisionError
    assert cv2.getNumThreads() == before
