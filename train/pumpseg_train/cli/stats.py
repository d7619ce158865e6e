"""pumpseg-data stats."""

import argparse
from pathlib import Path

from pumpseg.atomic_file import write_json
from pumpseg_train.cli.command import Commands, check_output


def add_stats(commands: Commands) -> None:
    parser = commands.add_parser(
        "stats",
        help="count images, instances, classes and sizes",
        description="Count the images, instances, classes and sizes of each split.",
        examples=["pumpseg-data stats data/fruit", "pumpseg-data stats data/fruit --json stats.json"],
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.set_defaults(run=_run, if_interrupted="interrupted")


def _run(arguments: argparse.Namespace) -> None:
    from pumpseg_train.dataset.annotations import read_splits
    from pumpseg_train.dataset.stats import statistics

    labelled = read_splits(arguments.data)
    if arguments.json:
        check_output(arguments.json, labelled.paths)
    figures = {split: statistics(labelled, split) for split in labelled.splits}
    if arguments.json:
        write_json(arguments.json, figures)
    for split, values in figures.items():
        print(split)
        for name, value in values.items():
            if isinstance(value, dict):
                value = "  ".join(f"{key} {number:g}" for key, number in value.items())
            print(f"  {name:26}{value}")
