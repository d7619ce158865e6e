"""The photos through the package oidv6 1.0.5, run as a program of its own.

oidv6 gets tables that list the wanted photos only, so that it neither downloads nor loads 14 million rows. Its exit
code is ignored: it is always 0. What it downloaded is decoded; the caller gets what is missing in another way. It needs
the AWS command line, and starts a process for every photo.
"""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pumpseg.errors import DatasetError, PumpsegError
from pumpseg_train.dataset.photo_file import probe_file
from pumpseg_train.openimages.addresses import CLASS_NAMES, Addresses, file_name
from pumpseg_train.progress import Progress

_POLL_SECONDS = 0.2


class Oidv6Error(PumpsegError, RuntimeError):
    """oidv6 cannot be run as asked."""


@dataclass(frozen=True)
class Oidv6:
    """Where the program is; `aws` is searched next to it, then on the PATH. stall: seconds without a new file after
    which it is ended."""

    program: str
    stall: float = 120.0

    @property
    def environment(self) -> dict[str, str]:
        folder = str(Path(self.program).parent)
        return {
            **os.environ,
            "PATH": folder + os.pathsep + os.environ.get("PATH", ""),
            "TERM": os.environ.get("TERM") or "dumb",  # its rulers ask the terminal, with an error if there is none
            "COLUMNS": "80",
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }


def find_oidv6(command: str = "oidv6") -> Oidv6:
    """The program, by name or path.

    Raises Oidv6Error if it, or the `aws` that it runs for every photo, is not there.
    """
    program = shutil.which(command)
    if program is None:
        raise Oidv6Error(f"there is no program {command}: docs/open-images.md says how to install oidv6, or use https")
    tool = Oidv6(str(Path(program).absolute()))
    if shutil.which("aws", path=tool.environment["PATH"]) is None:
        raise Oidv6Error("there is no program aws, which oidv6 runs for every photo: pip install awscli, or use https")
    return tool


def fetch_with_oidv6(
    tool: Oidv6,
    addresses: Addresses,
    split: str,
    photos: Mapping[str, str],
    mids: Mapping[str, str],
    folder: Path,
    scratch: Path,
    report: Progress,
) -> str | None:
    """Lets oidv6 download the `photos` (image id to class name) of a split into `folder`/ID.jpg, if they decode.

    mids: MID of every class name. scratch: a folder for its tables, log and downloads.
    Returns a line about missing photos, None if there are none.
    Raises Oidv6Error.
    """
    if set('"$`\\') & set(str(scratch)) and os.name == "posix":
        raise Oidv6Error(f"oidv6 hands the path {scratch} to a shell unquoted: use https, or another folder")
    _write_tables(scratch, addresses, split, photos, mids)
    folder.mkdir(parents=True, exist_ok=True)
    classes = sorted(set(photos.values()))
    places = {i: scratch / split / name.replace(" ", "_") / f"{i}.jpg" for i, name in photos.items()}
    for place in places.values():
        place.unlink(missing_ok=True)  # oidv6 accepts any file, even an empty one, as a photo
    command = [tool.program, "downloader", "--dataset", str(scratch), "--type_data", split, "--yes", "--no_labels"]
    command += ["--hide_metadata", "--no_clear_shell", "--classes", *(name.replace(" ", "_") for name in classes)]
    log = scratch / f"oidv6-{split}.log"
    stalled = _run(tool, command, log, places, report, f"{split} images (oidv6)")

    damaged = 0
    for image_id, place in places.items():
        if not place.is_file():
            continue
        try:
            probe_file(place)
        except DatasetError:
            damaged += 1
            place.unlink()
            continue
        place.replace(folder / f"{image_id}.jpg")
    missing = sum(not (folder / f"{image_id}.jpg").is_file() for image_id in photos)
    if not missing:
        return None
    how = f"oidv6 was ended after {tool.stall:g} s without a new photo" if stalled else "oidv6 ended"
    return f"{how}: {missing} of {len(photos)} {split} photos missing, {damaged} of them damaged (see {log})"


def _write_tables(
    scratch: Path, addresses: Addresses, split: str, photos: Mapping[str, str], mids: Mapping[str, str]
) -> None:
    for name in ("metadata", "boxes"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    with (scratch / "metadata" / CLASS_NAMES).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((mid, name.capitalize()) for name, mid in mids.items())
    with (scratch / "boxes" / file_name(addresses.boxes(split))).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"))
        rows.writerows((image_id, mids[name], 0, 1, 0, 1) for image_id, name in photos.items())


def _run(tool: Oidv6, command: list[str], log: Path, places: Mapping[str, Path], report: Progress, what: str) -> bool:
    """Runs it to its end; returns whether it stalled and was ended."""
    with log.open("wb") as output, report.stage(what, len(places), "images") as advance:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=tool.environment,
                start_new_session=True,  # so that its shells and theirs can be ended with it
            )
        except OSError as error:
            raise Oidv6Error(f"cannot run {command[0]}: {error.strerror}") from None
        found, waiting = 0, time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                now = sum(place.is_file() for place in places.values())
                if now > found:
                    advance(now - found)
                    found, waiting = now, time.monotonic()
                elif time.monotonic() - waiting > tool.stall:
                    return True
        finally:
            _end(process)
    return False


def _end(process: subprocess.Popen) -> None:
    """Ends the program and the processes that it started."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    reaper = threading.Thread(target=process.wait, daemon=True)
    reaper.start()
    reaper.join(10)
