"""Faults of all kinds against the commands: kills, full disks, hostile servers, damaged files.

    python benchmarks/faults/run.py                        # all of them, about an hour on two cores
    python benchmarks/faults/run.py --only media --count 60 --seed 3
    python benchmarks/faults/run.py --json faults.json --keep found  # every case; the files of those that went wrong

Everything is local: servers listen on 127.0.0.1, files are in a temporary folder. After each fault: no traceback, no
hang over 60 s, the exit code that the docs name, outputs whole or absent, nothing hidden left after a rerun, and the
rerun's outputs equal to those of an undisturbed run. The exit code is 1 if something was wrong. Linux; full disks are
small file systems where they can be mounted (as root), else a limit on the size of files.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import commands
import disks
import kills
import labels
import media
import models
import pages
import urls
from commands import Case, WarmCommands, errors_of

from pumpseg.atomic_file import write_json
from pumpseg.cli.arguments import count, positive, seed
from pumpseg.cli.command import CommandParser, run_command

Kind = Callable[[int, random.Random, Path, WarmCommands], Iterator[Case]]
# Those that fork come first, before there are threads.
KINDS: dict[str, tuple[Kind, int]] = {
    "media": (media.run, 600),
    "labels": (labels.run, 300),
    "models": (models.run, 100),
    "urls": (urls.run, 50),
    "disks": (disks.run, 20),
    "pages": (pages.run, 2),
    "kills": (kills.run, 200),
    "stops": (kills.run_stops, 20),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=count, metavar="N", help="cases of each kind (default: see the table)")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed draws the same faults")
    parser.add_argument(
        "--max-seconds",
        type=positive,
        default=60.0,
        metavar="S",
        help="after which a command hangs; more on a busy machine",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every case")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the folders of cases in which something went wrong"
    )
    arguments = parser.parse_args(argv)
    return run_command("faults", lambda: run_all(arguments))


def run_all(arguments: argparse.Namespace) -> int:
    commands.MAX_SECONDS = arguments.max_seconds
    warm = WarmCommands("pumpseg-video", "pumpseg-data")
    cases: dict[str, list[Case]] = defaultdict(list)
    for kind in arguments.only:
        action, usual = KINDS[kind]
        with tempfile.TemporaryDirectory(prefix="pumpseg-faults-") as work:
            for case in action(arguments.count or usual, random.Random(arguments.seed), Path(work), warm):
                cases[kind].append(case)
                if case.problems:
                    print(f"{kind}: {case.what}: {case.how}: {'; '.join(case.problems)}", file=sys.stderr, flush=True)
                    if arguments.keep is not None and case.folder.is_dir():
                        kept = arguments.keep / f"{kind}-{len(cases[kind])}"
                        shutil.copytree(case.folder, kept, dirs_exist_ok=True)
                        shutil.copy(errors_of(case.folder), kept / "stderr.txt")
        print(f"{kind}: {len(cases[kind])} cases", file=sys.stderr, flush=True)
    if arguments.json is not None:
        write_json(arguments.json, {kind: list(map(_record, found)) for kind, found in cases.items()})
    print(table(cases))
    return int(any(case.problems for found in cases.values() for case in found))


def _record(case: Case) -> dict[str, object]:
    return {"what": case.what, "how": case.how, **dataclasses.asdict(case.ended), "problems": case.problems}


def table(cases: dict[str, list[Case]]) -> str:
    """A row for each kind of fault and thing it hit, in Markdown."""
    rows = ["| fault | what | cases | exit codes | slowest | problems |", "|---|---|---|---|---|---|"]
    for kind, found in cases.items():
        by_what = defaultdict(list)
        for case in found:
            by_what[case.what].append(case)
        for what, some in by_what.items():
            codes = Counter(case.ended.code for case in some)
            shown = ", ".join(f"{code}: {number}" for code, number in sorted(codes.items()))
            slowest = max(case.ended.seconds for case in some)
            problems = sum(bool(case.problems) for case in some)
            rows.append(f"| {kind} | {what} | {len(some)} | {shown} | {slowest:.1f} s | {problems} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
