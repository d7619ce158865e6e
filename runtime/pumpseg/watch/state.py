"""What a watch has counted, on the disk: it survives a restart and `kill -9`."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pumpseg.atomic_file import complete_file
from pumpseg.errors import SinkError
from pumpseg.file_lock import lock_file

log = logging.getLogger("pumpseg")

_LOCK = ".lock"
_TOKEN = "page-token"


class StateFolder:
    """A folder with a JSON file for each camera, used by one process at a time.

    Raises SinkError if it cannot be written or another process uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(folder / _LOCK, f"process {os.getpid()}\n")
        except OSError as error:
            raise SinkError(f"cannot write into {folder}: {error.strerror or error}") from None
        if self._lock is None:
            raise SinkError(f"another process uses {folder}: stop it, or name another folder as [state] folder")

    def load(self, camera: str) -> dict[str, Any]:
        """What was saved last; empty if nothing was. A damaged file is set aside, and that is logged."""
        path = self._path(camera)
        try:
            state = json.loads(path.read_bytes())
            if not isinstance(state, dict):
                raise ValueError("it is not an object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.set_aside(camera, error)
            return {}
        return state

    def set_aside(self, camera: str, reason: object) -> None:
        """Keep a state that cannot be used under another name."""
        path = self._path(camera)
        log.error("the state of %s cannot be used, it is now %s.damaged: %s", camera, path.name, reason)
        try:
            path.replace(path.with_name(f"{path.name}.damaged"))
        except OSError as error:
            log.error("cannot rename %s: %s", path, error.strerror)

    def save(self, camera: str, state: Mapping[str, Any], *, sync: bool = False) -> None:
        """Replace what was saved. It survives a killed process; sync: a power cut as well. Raises SinkError."""
        with complete_file(self._path(camera), sync=sync) as path:
            path.write_text(json.dumps(state), encoding="utf-8")

    def token(self) -> str:
        """A random token that stays the same, readable by this user only. Raises SinkError."""
        path = self.folder / _TOKEN
        try:
            if path.is_file() and (token := path.read_text(encoding="ascii").strip()):
                return token
            token = secrets.token_urlsafe(16)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
                file.write(f"{token}\n")
        except (OSError, UnicodeError) as error:
            raise SinkError(f"cannot keep the page's token in {path}: {error}") from None
        return token

    def _path(self, camera: str) -> Path:
        return self.folder / f"camera-{camera}.json"

    def close(self) -> None:
        """Let another process use the folder. Does nothing twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
