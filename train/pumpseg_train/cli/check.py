"""pumpseg-data check."""

import argparse
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from pumpseg.atomic_file import write_json
from pumpseg.cli.arguments import whole
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands, check_output

_SHOWN = 10


def add_check(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="find what is wrong with a data set",
        examples=[
            "pumpseg-data check data/fruit",
            "pumpseg-data check data/fruit --strict --all --json findings.json",
        ],
        description="Find faults in DATA/{train,val,test} or DATA: missing and damaged images; masks that are empty, "
        "tiny, doubled, outside their image or unlike their box; near-duplicates; classes that differ between splits. "
        "Exit code: 0 no faults, 1 faults, 2 no data set.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--strict", action="store_true", help="count warnings as faults too")
    parser.add_argument("--all", action="store_true", help=f"print every finding, not {_SHOWN} of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all findings here")
    parser.add_argument(
        "--near",
        type=whole(0, 127),
        metavar="BITS",
        help="of 256 that duplicates may differ in; different photos differ in 128 or so (default 32)",
    )
    parser.add_argument("--tiny", type=int, metavar="PX", help="warn of masks of fewer pixels (default 16)")
    parser.set_defaults(run=_run, if_interrupted="interrupted")


def _run(arguments: argparse.Namespace) -> int:
    from pumpseg_train.dataset.annotations import Fault, read_splits
    from pumpseg_train.dataset.check import NEAR, TINY, check
    from pumpseg_train.progress import StderrProgress

    faults: list[Fault] = []
    labelled = read_splits(arguments.data, faults.append)
    if arguments.json:
        check_output(arguments.json, labelled.paths)
    near = NEAR if arguments.near is None else arguments.near
    tiny = TINY if arguments.tiny is None else arguments.tiny
    findings = check(labelled, faults, StderrProgress(), near=near, tiny=tiny)
    if arguments.json:
        write_json(arguments.json, [asdict(finding) for finding in findings])

    table: dict[tuple[bool, str], Counter[str]] = defaultdict(Counter)
    for finding in findings:
        table[not finding.fault, finding.kind][finding.split] += 1
    for (harmless, kind), counts in sorted(table.items()):
        level = "warning" if harmless else "fault"
        print(f"{level:8}{kind:26}" + "  ".join(f"{split} {count}" for split, count in sorted(counts.items())))
        same = [finding for finding in findings if finding.kind == kind]
        shown = same if arguments.all else same[:_SHOWN]
        for finding in shown:
            print(f"          {finding.split}: {finding.what}: {finding.detail}")
        if len(shown) < len(same):
            print(f"          ... and {len(same) - len(shown)} more: --all prints them")
    number = sum(finding.fault for finding in findings)
    warnings = len(findings) - number
    size = f"{counted(len(labelled.photos), 'image')} in {counted(len(labelled.splits), 'split')}"
    print(f"{arguments.data}: {size}, {counted(number, 'fault')}, {counted(warnings, 'warning')}")
    return 1 if number or (arguments.strict and warnings) else 0
