"""HTTP that survives a bad network: retries with back-off, and downloads that go on where they stopped."""

import base64
import email.utils
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import requests
import urllib3

from pumpseg.errors import PumpsegError
from pumpseg_train.progress import Advance, Progress

Result = TypeVar("Result")

_BLOCK = 1 << 20
_MAX_WAIT = 60.0
GONE = frozenset({403, 404, 410})  # S3 answers 403 for a missing key to those who may not list


class TransferError(PumpsegError, OSError):
    """Something could not be had from a server, after all tries."""


class NotThereError(TransferError):
    """The server says that there is no such file; trying again is of no use."""


class TryAgainError(Exception):
    """What went wrong this time; `wait` is what the server asked for, in seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Transfer:
    """Downloads over one session a thread; `stop` ends them all at the next block.

    retries: tries after the first one that bring nothing new, before TransferError. A connection that drops
        after some bytes counts as progress. timeout: seconds without a byte. back_off: seconds before the first
        retry, doubled each time, with jitter.
    """

    def __init__(self, retries: int = 5, timeout: float = 30.0, back_off: float = 0.5) -> None:
        self.retries, self.timeout, self.back_off = retries, timeout, back_off
        self.stop = threading.Event()
        self._local = threading.local()

    @property
    def session(self) -> requests.Session:
        """The session of this thread."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers["Accept-Encoding"] = "identity"  # lengths are those of the files
        return self._local.session

    def fetch(self, url: str) -> bytes:
        """A small file as a whole.

        Raises NotThereError, or TransferError after the last try.
        """

        def once() -> bytes:
            with self._get(url) as response:
                content, size = b"".join(self._blocks(response)), _describe(response)["size"]
            if size is not None and size != len(content):
                raise TryAgainError(f"{len(content)} of {size} bytes came")
            return content

        return self.persist(url, once)

    def download(self, url: str, path: Path, report: Progress) -> None:
        """`url` to `path`, which appears when it is complete.

        What has come lies in `path`.part and is gone on with after a dropped connection or in a later run, if the
        server's file is still the same. Length and, where the server tells it, MD5 are compared.
        Raises NotThereError, TransferError.
        """
        part, about = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        with report.stage(path.name, None, "B", have) as advance:
            self.persist(url, lambda: self._continue(url, part, about, advance), progress=lambda: _size(part))
        part.replace(path)
        about.unlink(missing_ok=True)

    def persist(self, what: str, action: Callable[[], Result], progress: Callable[[], int] | None = None) -> Result:
        """Runs `action` again and again while it fails for reasons that may pass.

        Raises NotThereError at once, TransferError when `retries` in a row brought no `progress`, KeyboardInterrupt
        when `stop` is set.
        """
        failures = 0
        while True:
            before = progress() if progress else 0
            try:
                return action()
            except TryAgainError as error:
                why, wait = str(error), error.wait
            except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
                why, wait = _reason(error), 0.0
            failures = 1 if progress and progress() > before else failures + 1
            if failures > self.retries:
                raise TransferError(f"{what}: {why}, after {self.retries} retries")
            pause = self.back_off * 2 ** (failures - 1) * random.uniform(0.5, 1.5)
            if self.stop.wait(min(max(pause, wait), _MAX_WAIT)):
                raise KeyboardInterrupt

    def _continue(self, url: str, part: Path, about: Path, advance: Advance) -> None:
        have, known = _size(part), _about(about)
        headers = {}
        if have and known.get("validator"):
            headers = {"Range": f"bytes={have}-", "If-Range": known["validator"]}
        with self._get(url, headers) as response:
            resumed = response.status_code == 206 and _first_byte(response) == have
            if response.status_code == 416:
                if have and have == known.get("size"):
                    _compare_md5(part, known)
                    return
                part.unlink(missing_ok=True)
                raise TryAgainError("the server has fewer bytes than were received before")
            if not resumed:
                if response.status_code == 206:
                    part.unlink(missing_ok=True)
                    raise TryAgainError("the server sent another range than was asked for")
                known = _describe(response)
                about.write_text(json.dumps(known), encoding="utf-8")
            with part.open("ab" if resumed else "wb") as file:
                for block in self._blocks(response):
                    file.write(block)
                    advance(len(block))
        size = _size(part)
        if known["size"] is not None and size != known["size"]:
            if size > known["size"]:
                part.unlink()
            raise TryAgainError(f"{size} of {known['size']} bytes came")
        _compare_md5(part, known)

    def _get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        if self.stop.is_set():
            raise KeyboardInterrupt
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=self.timeout)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise TransferError(f"{url} is no http or https address") from None
        if response.status_code in GONE:
            response.close()
            raise NotThereError(f"{url}: the server answers {response.status_code}, there is no such file")
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            response.close()
            raise TryAgainError(f"the server answers {response.status_code}", _retry_after(response))
        if response.status_code not in (200, 206, 416):
            response.close()
            raise TransferError(f"{url}: the server answers {response.status_code} {response.reason}")
        return response

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it comes in: what was received before a connection drops is handed on first."""
        while block := response.raw.read1(_BLOCK):
            if self.stop.is_set():
                raise KeyboardInterrupt
            yield block


def _describe(response: requests.Response) -> dict:
    """What to hold a download against: its size, its MD5 and the tag that tells whether the file has changed."""
    length = response.headers.get("Content-Length", "")
    md5 = [text.strip() for text in response.headers.get("x-goog-hash", "").split(",")]
    digest = next((text[4:] for text in md5 if text.startswith("md5=")), response.headers.get("Content-MD5"))
    etag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
    return {"size": int(length) if length.isdecimal() else None, "md5": digest, "validator": validator}


def _about(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _compare_md5(part: Path, known: dict) -> None:
    if not known.get("md5"):
        return
    with part.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    if digest != known["md5"]:
        part.unlink()
        raise TryAgainError(f"the MD5 of what came is {digest}, the server says {known['md5']}")


def _first_byte(response: requests.Response) -> int | None:
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else None


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
