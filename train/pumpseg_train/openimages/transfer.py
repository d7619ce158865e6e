"""HTTP over a bad network: retries with back-off, and downloads that resume where they stopped."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

import requests
import urllib3
from urllib3.util import Retry

from pumpseg.errors import PumpsegError, first_line
from pumpseg.redaction import redacted_text
from pumpseg_train.progress import Advance, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_BLOCK = 1 << 20
_MAX_WAIT = 60.0
MAX_FETCHED = 1 << 28  # bytes that are kept in memory
GONE = frozenset({403, 404, 410})  # S3 answers 403 for a missing key to those who may not list


class TransferError(PumpsegError, OSError):
    """A download failed after all retries. Its text has no secrets of a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted_text(message))


class NotThereError(TransferError):
    """The server says that there is no such file: it is not retried."""


class TryAgainError(Exception):
    """What went wrong this time. response: the server's, which may say how long to wait."""

    def __init__(self, why: str, response: requests.Response | None = None) -> None:
        super().__init__(why)
        self.response = response


class Transfer:
    """Downloads, `jobs` at a time, over one session a thread; `stop` ends them all at the next block.

    retries: failures in a row without any progress before TransferError. A connection that drops after some bytes
        counts as progress. timeout: seconds without a byte. back_off: seconds before the second retry, doubled each
        time, with jitter; the first is immediate.
    """

    def __init__(
        self,
        report: Progress | None = None,
        *,
        jobs: int = 8,
        retries: int = 5,
        timeout: float = 30.0,
        back_off: float = 0.5,
    ) -> None:
        self.report, self.jobs, self.timeout = report or Progress(), jobs, timeout
        self.stop = threading.Event()
        self._retry = Retry(retries, backoff_factor=back_off, backoff_jitter=back_off)
        self._local = threading.local()

    @property
    def session(self) -> requests.Session:
        """The session of this thread."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.headers["Accept-Encoding"] = "identity"  # lengths are those of the files
        return self._local.session

    def for_each(
        self, items: Sequence[Item], action: Callable[[Item], None], advance: Advance = lambda _: None
    ) -> None:
        """Runs `action` for all items; the first exception, or Ctrl-C, ends them all and is raised."""
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="pumpseg-data") as pool:
            futures: list[Future[None]] = []
            try:
                for item in items:
                    future = pool.submit(action, item)
                    future.add_done_callback(lambda _: advance(1))
                    futures.append(future)
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def fetch(self, url: str) -> bytes:
        """A small file as a whole.

        Raises NotThereError, or TransferError after the last retry.
        """

        def once() -> bytes:
            with self._get(url) as response:
                content, size = self._whole(url, response), _describe(response)["size"]
            if size is not None and size != len(content):
                raise TryAgainError(f"{len(content)} of {size} bytes received")
            return content

        return self.persist(url, once)

    def download(self, url: str, path: Path) -> None:
        """`url` to `path`, which appears when it is complete.

        What was received is in `path`.part and is continued after a dropped connection or in a later run, if the
        server's file is still the same. Length and, where the server gives it, MD5 are compared.
        Raises NotThereError, TransferError.
        """
        part, about = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.report.stage(path.name, None, "B", _size(part)) as advance:
            self.persist(url, lambda: self._continue(url, part, about, advance), progress=lambda: _size(part))
        part.replace(path)
        about.unlink(missing_ok=True)

    def persist(self, what: str, action: Callable[[], Result], progress: Callable[[], int] | None = None) -> Result:
        """Repeats `action` while it fails for reasons that may pass.

        Raises NotThereError at once, TransferError after the retries without any `progress`, KeyboardInterrupt when
        `stop` is set.
        """
        retry = self._retry
        while True:
            before = progress() if progress else 0
            try:
                return action()
            except (
                TryAgainError,
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                ConnectionError,
                TimeoutError,
            ) as error:
                failure: Exception = error
            if progress and progress() > before:
                retry = self._retry
            try:
                retry = retry.increment("GET", what, error=failure)
            except urllib3.exceptions.MaxRetryError:
                raise TransferError(f"{what}: {_reason(failure)}, after {self._retry.total} retries") from None
            answer = failure.response if isinstance(failure, TryAgainError) else None
            asked = retry.get_retry_after(answer.raw) if answer is not None else None
            if self.stop.wait(min(max(retry.get_backoff_time(), asked or 0), _MAX_WAIT)):
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
                    raise TryAgainError("the server sent another range than requested")
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
            raise TryAgainError(f"{size} of {known['size']} bytes received")
        _compare_md5(part, known)

    def _get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        if self.stop.is_set():
            raise KeyboardInterrupt
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=self.timeout)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise TransferError(f"{url} is not an http or https address") from None
        if response.status_code in GONE:
            response.close()
            raise NotThereError(f"{url}: the server answers {response.status_code}, there is no such file")
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            response.close()
            raise TryAgainError(f"the server answers {response.status_code}", response)
        if response.status_code not in (200, 206, 416):
            response.close()
            raise TransferError(f"{url}: the server answers {response.status_code} {response.reason}")
        return response

    def _whole(self, url: str, response: requests.Response) -> bytes:
        content = bytearray()
        for block in self._blocks(response):
            content += block
            if len(content) > MAX_FETCHED:
                raise TransferError(f"{url}: the server sends more than {MAX_FETCHED >> 20} MiB")
        return bytes(content)

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it arrives: what was received before a connection drops is yielded first."""
        while block := response.raw.read1(_BLOCK):
            if self.stop.is_set():
                raise KeyboardInterrupt
            yield block


def _describe(response: requests.Response) -> dict[str, Any]:
    """What to compare a download with: its size, its MD5, and the tag by which the server knows its version."""
    length = response.headers.get("Content-Length", "")
    md5 = [text.strip() for text in response.headers.get("x-goog-hash", "").split(",")]
    digest = next((text[4:] for text in md5 if text.startswith("md5=")), response.headers.get("Content-MD5"))
    etag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
    return {"size": int(length) if length.isdecimal() else None, "md5": digest, "validator": validator}


def _about(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _compare_md5(part: Path, known: dict[str, Any]) -> None:
    if not known.get("md5"):
        return
    with part.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    if digest != known["md5"]:
        part.unlink()
        raise TryAgainError(f"the MD5 of the download is {digest}, the server says {known['md5']}")


def _first_byte(response: requests.Response) -> int | None:
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    name = "" if isinstance(error, TryAgainError) else f"{type(error).__name__}: "
    return f"{name}{redacted_text(first_line(error))}"[:200]
