"""pumpseg-data split."""

import argparse
from pathlib import Path

from pumpseg.errors import PumpsegError
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands

_MIN_SHARE = 1e-9


def add_split(commands: Commands) -> None:
    parser = commands.add_parser(
        "split",
        help="divide a data set into train, val and test",
        examples=[
            "pumpseg-data split data/all --out data/fruit --val 0.2 --test 0.1",
            "pumpseg-data split data/all --out data/fruit --group '^(.*)_frame' --link",
        ],
        description="Pool the splits of DATA (or DATA itself) and divide them again. Near-duplicates stay in one "
        "split, classes are spread evenly, the same seed gives the same result.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must be new or empty")
    parser.add_argument("--val", type=float, default=0.2, metavar="SHARE", help="of the images")
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="of the images")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random order")
    parser.add_argument(
        "--group", metavar="REGEX", help="images whose names match it in the same way stay together: '^(.*)_frame'"
    )
    parser.add_argument("--link", action="store_true", help="hard-link the photos instead of copying them")
    parser.set_defaults(run=_run, if_interrupted="interrupted, nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    shares = {"train": 1 - arguments.val - arguments.test, "val": arguments.val, "test": arguments.test}
    # NaN is not above anything; 1 - 0.7 - 0.3 is, by rounding.
    if not (arguments.val >= 0 and arguments.test >= 0 and shares["train"] > _MIN_SHARE):
        raise PumpsegError(f"--val {arguments.val:g} --test {arguments.test:g}: shares from 0, together below 1")
    shares = {split: share for split, share in shares.items() if share > 0}
    from pumpseg_train.dataset.annotations import read_splits
    from pumpseg_train.dataset.split import divide
    from pumpseg_train.progress import StderrProgress

    result = divide(
        read_splits(arguments.data),
        arguments.out,
        shares,
        StderrProgress(),
        seed=arguments.seed,
        group=arguments.group,
        link=arguments.link,
    )
    for split, counts in result.items():
        print(
            f"{split}: {counted(counts.images, 'image')}, "
            + ", ".join(f"{n} {name}" for name, n in counts.instances.items())
        )
    print(f"wrote {arguments.out}")
