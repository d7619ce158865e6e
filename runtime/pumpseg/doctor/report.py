"""The report of all checks, as text and as JSON, with nothing in it that names the user, the machine or a folder."""

from __future__ import annotations

import dataclasses
import getpass
import re
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pumpseg.doctor.finding import FAULT, Finding
from pumpseg.doctor.media import check_cameras, check_codecs, check_screen
from pumpseg.doctor.models import check_models
from pumpseg.doctor.packages import check_packages, check_telemetry
from pumpseg.doctor.providers import check_providers
from pumpseg.doctor.system import check_disks, check_system

Check = Callable[[], list[Finding]]
SECTIONS: dict[str, tuple[Check, ...]] = {
    "system": (check_system, check_disks),
    "packages": (check_packages, check_telemetry),
    "providers": (check_providers,),
    "video": (check_codecs,),
    "screen and cameras": (check_screen, check_cameras),
    "models": (check_models,),
}


def examine() -> Iterator[tuple[str, list[Finding]]]:
    """Name and findings of one section after the other, without private words."""
    hide = _private_words()
    for name, checks in SECTIONS.items():
        findings = [finding for check in checks for finding in check()]
        yield (
            name,
            [dataclasses.replace(finding, text=hide(finding.text), mend=hide(finding.mend)) for finding in findings],
        )


def section_text(name: str, findings: list[Finding]) -> str:
    lines = [name] if findings else [name, "  not tried: packages are missing"]
    for finding in findings:
        mark = "WRONG" if finding.status == FAULT else finding.status
        lines.append(f"  {mark:6}{finding.topic}: {finding.text}")
        if finding.mend:
            lines.append(f"{'':8}-> {finding.mend}")
    return "\n".join(lines)


def faults(report: dict[str, list[Finding]]) -> list[Finding]:
    return [finding for findings in report.values() for finding in findings if finding.status == FAULT]


def verdict(report: dict[str, list[Finding]]) -> str:
    count = len(faults(report))
    if not count:
        return "nothing is wrong"
    return f"{count} {'thing is' if count == 1 else 'things are'} wrong: see the lines after ->"


def as_json(report: dict[str, list[Finding]]) -> dict[str, Any]:
    return {
        "format": 1,
        "verdict": verdict(report),
        "faults": len(faults(report)),
        "sections": {name: [finding.to_json() for finding in findings] for name, findings in report.items()},
    }


def _private_words() -> Callable[[str], str]:
    """Replaces folders, the user's name and the machine's by what they are."""
    folders = {
        sysconfig.get_path("purelib"): "<packages>",
        sysconfig.get_path("platlib"): "<packages>",
        str(Path(__file__).parents[2]): "<packages>",
        sys.prefix: "<python>",
        str(Path.cwd()): "<here>",
        str(_home()): "~",
    }
    longest_first = sorted((path for path in folders if len(path) > 1), key=len, reverse=True)
    host = socket.gethostname()
    names = "|".join(re.escape(name) for name in {_user(), host, host.partition(".")[0]} if name)
    # As a part of a path or an address only: somebody may be called "video".
    private = re.compile(rf"(?<=[/\\@])({names})(?![\w-])|\b({names})(?=@)") if names else None

    def hide(text: str) -> str:
        for path in longest_first:
            text = text.replace(path, folders[path])
        return private.sub("<private>", text) if private else text

    return hide


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return ""


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
