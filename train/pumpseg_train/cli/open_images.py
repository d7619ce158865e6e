"""pumpseg-data open-images."""

import argparse
from pathlib import Path

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import Commands

_SHOWN = 20


def add_open_images(commands: Commands) -> None:
    parser = commands.add_parser(
        "open-images",
        help="photos and instance masks of classes of Open Images V6",
        description="Download photos of some classes of Open Images V6 with their instance masks to "
        "DIR/{train,val,test}. The same line again goes on where it stopped and tries again what is missing. "
        "Exit code: 0 everything is there, 1 some images are missing (they are named), 2 no data set.",
    )
    add = parser.add_argument
    add("--classes", nargs="+", required=True, metavar="NAME", help="such as Pumpkin, 'Table tennis racket'")
    add("--out", type=Path, required=True, metavar="DIR", help="data set to make or to complete")
    splits = ("train", "validation", "test")
    add("--splits", nargs="+", choices=splits, default=splits, metavar="SPLIT", help="default: train validation test")
    add("--limit", type=int, metavar="N", help="at most N images a split, drawn at random")
    add("--seed", type=int, default=0, metavar="S", help="of that draw (default 0)")
    add("--jobs", type=int, default=8, metavar="N", help="downloads at a time (default 8)")
    add("--groups", choices=("crowd", "drop", "keep"), default="crowd", help="boxes around many (default crowd)")
    add("--depictions", choices=("crowd", "drop", "keep"), default="keep", help="drawn ones (default keep)")
    add("--unmasked", choices=("crowd", "drop"), default="crowd", help="boxes without a mask (default crowd)")
    add("--min-iou", type=float, default=0.0, metavar="X", help="take masks with PredictedIoU below X as missing")
    add(
        "--downloader",
        choices=("auto", "oidv6", "https"),
        default="auto",
        help="of the photos: auto takes oidv6 where it and aws are installed (default auto)",
    )
    add("--oidv6", default="oidv6", metavar="PROGRAM", help="name or path of oidv6, such as oidv6-env/bin/oidv6")
    add("--cache", type=Path, metavar="DIR", help="keep the (large) CSV tables here, to share them")
    add("--annotations-url", metavar="URL", help="mirror of https://storage.googleapis.com/openimages")
    add("--images-url", metavar="URL", help="mirror of https://s3.amazonaws.com/open-images-dataset")
    add("--retries", type=int, default=5, metavar="N", help="in a row without any progress (default 5)")
    add("--timeout", type=float, default=30.0, metavar="S", help="seconds without a byte (default 30)")
    parser.set_defaults(run=_run, if_interrupted="interrupted, the same line again goes on from here")


def _run(arguments: argparse.Namespace) -> int:
    for name in ("limit", "jobs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise PumpsegError(f"--{name} {value}: at least 1 is needed")
    if arguments.retries < 0 or not arguments.timeout > 0:
        raise PumpsegError("--retries must be 0 or more, --timeout above 0")
    if not 0 <= arguments.min_iou <= 1:
        raise PumpsegError(f"--min-iou {arguments.min_iou}: a share between 0 and 1 is needed")
    from pumpseg_train.openimages.addresses import Addresses
    from pumpseg_train.openimages.fetch import Request, fetch_open_images
    from pumpseg_train.openimages.join import Rules
    from pumpseg_train.openimages.oidv6 import Oidv6Error, find_oidv6
    from pumpseg_train.openimages.transfer import Transfer
    from pumpseg_train.progress import StderrProgress

    report = StderrProgress()
    tool = None
    if arguments.downloader != "https":
        try:
            tool = find_oidv6(arguments.oidv6)
            report.note(f"photos come through {tool.program}")
        except Oidv6Error as error:
            if arguments.downloader == "oidv6":
                raise
            report.note(f"photos come by https: {error}")
    default = Addresses()
    addresses = Addresses(
        (arguments.annotations_url or default.annotations).rstrip("/"),
        (arguments.images_url or default.images).rstrip("/"),
    )
    request = Request(
        classes=tuple(arguments.classes),
        out=arguments.out,
        splits=tuple(dict.fromkeys(arguments.splits)),
        limit=arguments.limit,
        seed=arguments.seed,
        jobs=arguments.jobs,
        rules=Rules(arguments.groups, arguments.depictions, arguments.unmasked, arguments.min_iou),
        addresses=addresses,
        oidv6=tool,
        cache=arguments.cache,
    )
    results = fetch_open_images(request, Transfer(arguments.retries, arguments.timeout), report)
    for result in results:
        print(f"{result.split}: {result.images} images, {result.instances} instances, {result.crowds} crowd regions")
        for name, count in sorted(result.counts.items()):
            if count:
                print(f"  {name}: {count}")
        if result.failures:
            print(f"  left out because something could not be had: {len(result.failures)} images")
            for image_id, why in sorted(result.failures.items())[:_SHOWN]:
                print(f"    {image_id}: {why}")
            if len(result.failures) > _SHOWN:
                print(f"    ... the others are in {arguments.out / 'manifest.json'}")
    missing = sum(len(result.failures) for result in results)
    print(f"wrote {arguments.out}" + (f", {missing} images are missing: the same line tries again" if missing else ""))
    return 1 if missing else 0
