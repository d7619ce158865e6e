import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from pumpseg.watch.memory import share_arenas
libc = ctypes.CDLL(None)
if {shared}:
    print(share_arenas(), flush=True)
barrier = threading.Barrier(6)

def allocate():
    libc.malloc(100_000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas by thread")
def test_all_threads_share_two_arenas():
    def run(*, shared, **environment):
        environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | environment
        command = [sys.executable, "-c", PROGRAM.format(shared=shared)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
        return done.stdout.strip(), done.stderr.count("Arena ")

    assert run(shared=False)[1] > 2
    assert run(shared=True) == ("True", 2)
    assert run(shared=True, MALLOC_ARENA_MAX="1") == ("False", 1)
