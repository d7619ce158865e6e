"""Processes of a pool are initialised, use one thread, and leave Ctrl-C to their parent."""

import errno
import multiprocessing.synchronize
import os
import signal
import struct
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

import cv2
import pytest

from pumpseg.errors import PumpsegError
from pumpseg_train.worker_process import WorkerPool


def test_a_process_is_prepared_before_its_first_task(tmp_path):
    with WorkerPool(1, os.chdir, str(tmp_path)) as pool:
        assert pool.submit(os.getcwd).result() == os.path.realpath(tmp_path)
        assert pool.submit(cv2.getNumThreads).result() == 1
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def send_half():
    """From now on a message of this process breaks off in its middle, since the process is killed."""

    def send_bytes(connection, content, *_):
        os.write(connection.fileno(), struct.pack("!i", len(content)) + bytes(content)[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection.send_bytes = send_bytes


@pytest.mark.skipif(os.name == "nt", reason="Windows sends whole messages")
def test_a_process_that_is_killed_while_it_sends_breaks_the_pool():
    with WorkerPool(2, send_half) as pool:
        results = [pool.submit(os.getpid) for _ in range(4)]
        for result in results:
            with pytest.raises(BrokenProcessPool):
                result.result(timeout=60)


def test_a_system_without_shared_memory_is_named(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    with pytest.raises(PumpsegError, match=r"cannot share memory \(Permission denied\): can /dev/shm be written"):
        WorkerPool(1, os.getpid)
