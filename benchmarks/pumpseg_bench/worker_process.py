"""Starts worker processes and talks to them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from pumpseg.errors import PumpsegError

WORKER = (sys.executable, "-m", "pumpseg_bench.worker")
_SECONDS_TO_END = 10.0


class WorkerError(PumpsegError, RuntimeError):
    """A worker refused, failed or died. kind: class name of the error inside it, empty if it died. advice: its own."""

    def __init__(self, message: str, kind: str = "", advice: str = "") -> None:
        super().__init__(message)
        self.kind, self.advice = kind, advice


class WorkerProcess:
    """A worker process; `opened` waits until it is ready, `ask` calls a method of its worker, `close` ends it.

    cold_start: seconds from the start of the process to its first result, set by `opened`.
    """

    def __init__(self, argument: str, command: Sequence[str] = WORKER) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._start = perf_counter()
        self.cold_start = 0.0
        # A session of its own: Ctrl-C reaches the command alone, which then ends its workers.
        self._process = subprocess.Popen(
            [*command, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            start_new_session=True,
        )

    def opened(self) -> WorkerProcess:
        """Wait for the first result. Raises WorkerError, and ends the process, if there is none."""
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        self.cold_start = perf_counter() - self._start
        return self

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of the worker. Raises WorkerError if it fails."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": method, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._death()) from None
        return self._answer()

    def cpu_seconds(self) -> float:
        """CPU seconds that the process has used so far; 0 once it is gone."""
        import psutil

        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End the process, by closing its input first, so that libraries can save their caches."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._death())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], answer.get("kind", ""), answer.get("advice", ""))
        return answer["result"]

    def _death(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"its process ended with code {code}" + (f": {lines[-1].strip()}" if lines else "")
