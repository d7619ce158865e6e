"""`pumpseg doctor`: what is installed, what works, and the line that mends what does not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pumpseg.cli.command import FAILED, CommandParser, run_command
from pumpseg.doctor.finding import Finding
from pumpseg.doctor.report import as_json, examine, faults, section_text, verdict

PROGRAM = "pumpseg doctor"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if nothing is wrong, 1 if something is, 130 if interrupted."""
    return run_command(PROGRAM, lambda: _run(make_parser().parse_args(argv)))


def make_parser() -> CommandParser:
    parser = CommandParser(
        PROGRAM,
        description="Look at this machine and installation: packages that clash, execution providers, codecs, cameras, "
        "and whether the shipped models find what they should. Each check that may crash runs in its own process.",
        examples=["pumpseg doctor", "pumpseg doctor --json > doctor.json"],
        version=True,
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a report for an issue, without the names of users, machines and folders",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    report: dict[str, list[Finding]] = {}
    for name, findings in examine():
        report[name] = findings
        if not arguments.json:
            print(section_text(name, findings), flush=True)
    if arguments.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print(f"verdict: {verdict(report)}")
    return FAILED if faults(report) else 0


if __name__ == "__main__":
    sys.exit(main())
