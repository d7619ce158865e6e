"""pumpseg-data show."""

import argparse
import random
from pathlib import Path

from pumpseg.cli.arguments import count, whole
from pumpseg.errors import PumpsegError
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands, check_output


def add_show(commands: Commands) -> None:
    parser = commands.add_parser(
        "show",
        help="a contact sheet with the masks drawn",
        examples=[
            "pumpseg-data show data/fruit --save sheet.png",
            "pumpseg-data show data/fruit --split val --count 60 --columns 10 --save sheet.jpg",
        ],
        description="Draw photos of a data set side by side with their masks, chosen at random or by name.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--save", type=Path, required=True, metavar="FILE", help="sheet to write, .png or .jpg")
    parser.add_argument("--split", metavar="NAME", help="train, val or test (default: all)")
    parser.add_argument("--names", nargs="+", metavar="FILE", help="show these photos, in this order")
    parser.add_argument("--count", type=count, default=24, metavar="N", help="photos on the sheet")
    parser.add_argument("--columns", type=count, default=6, metavar="N", help="photos in a row")
    parser.add_argument("--side", type=whole(64), default=320, metavar="PX", help="of a photo on the sheet")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random choice")
    parser.add_argument(
        "--color",
        choices=("auto", "class", "instance"),
        default="auto",
        help="what decides the colour of a mask: auto takes the class where there are several",
    )
    parser.add_argument("--no-labels", action="store_true", help="draw no class names")
    parser.add_argument("--masks-only", action="store_true", help="draw neither contours nor class names")
    parser.set_defaults(run=_run, if_interrupted="interrupted, nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.save.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise PumpsegError(f"--save {arguments.save}: a name that ends with .png or .jpg is needed")
    from pumpseg.images import write_image
    from pumpseg_train.dataset.annotations import read_splits, refuse
    from pumpseg_train.dataset.contact_sheet import Style, contact_sheet

    labelled = read_splits(arguments.data, refuse)
    check_output(arguments.save, labelled.paths)
    if arguments.split not in (None, *labelled.splits):
        raise PumpsegError(f"{arguments.data} has no split {arguments.split}")
    photos = [
        (split, photo)
        for split, photos in labelled.splits.items()
        for photo in photos
        if arguments.split in (None, split)
    ]
    if arguments.names:
        by_name = {photo.path.name: (split, photo) for split, photo in photos}
        if missing := [name for name in arguments.names if name not in by_name]:
            raise PumpsegError(f"{arguments.data} has no image {missing[0]}")
        chosen = [by_name[name] for name in arguments.names]
    else:
        places = random.Random(arguments.seed).sample(range(len(photos)), min(arguments.count, len(photos)))
        chosen = [photos[place] for place in sorted(places)]
    style = Style(arguments.color, labels=not arguments.no_labels, masks_only=arguments.masks_only)
    write_image(arguments.save, contact_sheet(labelled, chosen, arguments.columns, arguments.side, style))
    print(f"wrote {arguments.save}: {len(chosen)} of {counted(len(photos), 'photo')}")
