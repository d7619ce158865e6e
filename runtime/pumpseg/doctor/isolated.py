"""Runs a check in a process of its own: a broken library may end its process, or never return."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from importlib import import_module

from pumpseg.doctor.finding import FAULT, Finding

SECONDS = 120.0


def isolated(topic: str, check: str, *arguments: str, seconds: float = SECONDS) -> list[Finding]:
    """The findings of a check, "module:function", that takes texts and returns a list of findings.

    A crash, and no answer within `seconds`, is a fault.
    """
    # Without -P a file named numpy.py in the current folder would be taken for NumPy.
    command = [sys.executable, "-P", "-m", __name__, check, *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [Finding(topic, FAULT, f"did not answer within {seconds:g} s")]
    except OSError as error:
        return [Finding(topic, FAULT, f"could not be examined ({error.strerror})")]
    answer = done.stdout.splitlines()
    if done.returncode == 0 and answer:
        return [Finding(**finding) for finding in json.loads(answer[-1])]
    said = (done.stderr.strip() or "nothing more is known").splitlines()[-1]
    return [Finding(topic, FAULT, f"{_ended(done.returncode)}: {said}")]


def _ended(code: int) -> str:
    if code >= 0:
        return f"failed with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"crashed ({signal.Signals(-code).name})"
    return f"crashed (signal {-code})"


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    findings = getattr(import_module(module), function)(*sys.argv[2:])
    print("\n" + json.dumps([finding.to_json() for finding in findings]))


if __name__ == "__main__":
    main()
