"""pumpseg-data open-images."""

import argparse
from pathlib import Path

from pumpseg.cli.arguments import count, positive, share, whole
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands, class_names

_SHOWN = 20


def add_open_images(commands: Commands) -> None:
    parser = commands.add_parser(
        "open-images",
        help="photos and instance masks of classes of Open Images V6",
        examples=[
            "pumpseg-data open-images --classes Pumpkin --out data/pumpkins",
            "pumpseg-data open-images --classes Apple Pear --out data/fruit --max-images 500 --seed 1",
        ],
        description="Download photos of some classes of Open Images V6 with their instance masks to "
        "DIR/{train,val,test}. Re-run the same command to resume, and to retry what is missing. "
        "Exit code: 0 complete, 1 some images are missing (they are named), 2 no data set.",
    )
    add = parser.add_argument
    add(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="such as Pumpkin 'Table tennis racket'; or NAMES.txt",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="data set to make or to complete")
    splits = ("train", "validation", "test")
    add("--splits", nargs="+", choices=splits, default=splits, metavar="SPLIT", help="default: train validation test")
    add("--max-images", type=count, metavar="N", help="of a split, drawn at random")
    add("--seed", type=int, default=0, metavar="S", help="of that draw")
    add("--jobs", type=count, default=8, metavar="N", help="downloads at a time")
    add("--groups", choices=("crowd", "drop", "keep"), default="crowd", help="boxes around many objects")
    add("--depictions", choices=("crowd", "drop", "keep"), default="keep", help="drawings of the object")
    add("--unmasked", choices=("crowd", "drop"), default="crowd", help="boxes without a mask")
    add("--min-iou", type=share, default=0.0, metavar="X", help="masks with a lower PredictedIoU count as missing")
    add(
        "--downloader",
        choices=("auto", "oidv6", "https"),
        default="auto",
        help="of the photos: auto takes oidv6 where it and aws are installed",
    )
    add("--oidv6", default="oidv6", metavar="PROGRAM", help="name or path of oidv6, such as oidv6-env/bin/oidv6")
    add("--cache", type=Path, metavar="DIR", help="keep the (large) CSV tables here, to share them")
    add("--annotations-url", metavar="URL", help="mirror of https://storage.googleapis.com/openimages")
    add("--images-url", metavar="URL", help="mirror of https://s3.amazonaws.com/open-images-dataset")
    add("--retries", type=whole(0), default=5, metavar="N", help="in a row without any progress")
    add("--timeout", type=positive, default=30.0, metavar="S", help="seconds without a byte")
    parser.set_defaults(run=_run, if_interrupted="interrupted: re-run the same command to resume")


def _run(arguments: argparse.Namespace) -> int:
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
            report.note(f"photos are downloaded by {tool.program}")
        except Oidv6Error as error:
            if arguments.downloader == "oidv6":
                raise
            report.note(f"photos are downloaded by https: {error}")
    default = Addresses()
    request = Request(
        classes=tuple(class_names(arguments.classes)),
        out=arguments.out,
        splits=tuple(dict.fromkeys(arguments.splits)),
        limit=arguments.max_images,
        seed=arguments.seed,
        rules=Rules(arguments.groups, arguments.depictions, arguments.unmasked, arguments.min_iou),
        addresses=Addresses(
            (arguments.annotations_url or default.annotations).rstrip("/"),
            (arguments.images_url or default.images).rstrip("/"),
        ),
        oidv6=tool,
        cache=arguments.cache,
    )
    transfer = Transfer(report, jobs=arguments.jobs, retries=arguments.retries, timeout=arguments.timeout)
    results = fetch_open_images(request, transfer)
    for result in results:
        counts = f"{counted(result.images, 'image')}, {counted(result.instances, 'instance')}"
        print(f"{result.split}: {counts}, {counted(result.crowds, 'crowd region')}")
        for name, number in sorted(result.counts.items()):
            if number:
                print(f"  {name}: {number}")
        if result.failures:
            print(f"  left out because a part of them is missing: {counted(len(result.failures), 'image')}")
            for image_id, why in sorted(result.failures.items())[:_SHOWN]:
                print(f"    {image_id}: {why}")
            if len(result.failures) > _SHOWN:
                print(f"    ... the others are in {arguments.out / 'manifest.json'}")
    missing = sum(len(result.failures) for result in results)
    more = f", missing: {counted(missing, 'image')}, re-run the same command to retry" if missing else ""
    print(f"wrote {arguments.out}{more}")
    return 1 if missing else 0
