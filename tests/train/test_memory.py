"""In the commands of training, large blocks are not mapped anew each time."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from pumpseg_train.cli.command import run_command
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if {kept}:
    run_command("pumpseg-train", lambda: None)
libc.free(libc.malloc(100_000_000))
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries stay as they are")
def test_freed_memory_is_kept():
    def run(*, kept, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | more
        command = [sys.executable, "-c", PROGRAM.format(kept=kept)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
        figures = dict(line.split("=") for line in done.stderr.splitlines() if "=" in line)
        mapped, from_system = (int(figures[name]) for name in ("max mmap bytes   ", "system bytes     "))
        return mapped > 100_000_000, from_system > 100_000_000

    assert run(kept=False) == (True, False)
    assert run(kept=True) == (False, True)
    assert run(kept=True, MALLOC_ARENA_MAX="1") == (True, False)
