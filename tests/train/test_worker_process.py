"""Processes of a pool are initialised, use one thread, and leave Ctrl-C to their parent."""

import os
import signal

import cv2

from pumpseg_train.worker_process import usable_cores, worker_pool


def test_a_process_is_prepared_before_its_first_task(tmp_path):
    with worker_pool(1, os.chdir, str(tmp_path)) as pool:
        assert pool.submit(os.getcwd).result() == os.path.realpath(tmp_path)
        assert pool.submit(cv2.getNumThreads).result() == 1
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_there_is_a_core_at_least():
    assert usable_cores() >= 1
