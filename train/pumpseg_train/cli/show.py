"""pumpseg-data show."""

import argparse
import random
from itertools import chain
from pathlib import Path

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import Commands, check_output


def add_show(commands: Commands) -> None:
    parser = commands.add_parser(
        "show",
        help="a contact sheet with the masks drawn",
        description="Draw photos of a data set side by side with their masks, drawn at random or named.",
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="sheet to write, .png or .jpg")
    parser.add_argument("--split", metavar="NAME", help="train, val or test (default: all)")
    parser.add_argument("--images", nargs="+", metavar="NAME", help="show these files, in this order")
    parser.add_argument("--count", type=int, default=24, metavar="N", help="photos on the sheet (default 24)")
    parser.add_argument("--columns", type=int, default=6, metavar="N", help="default 6")
    parser.add_argument("--tiles", type=int, default=320, metavar="PX", help="side of a photo's place (default 320)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default 0)")
    parser.set_defaults(run=_run, if_interrupted="interrupted, nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    for name, least in (("count", 1), ("columns", 1), ("tile", 64)):
        if getattr(arguments, name) < least:
            raise PumpsegError(f"--{name} {getattr(arguments, name)}: at least {least} is needed")
    if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise PumpsegError(f"--out {arguments.out}: a name that ends with .png or .jpg is needed")
    from pumpseg.images import write_image
    from pumpseg_train.dataset.annotations import read_dataset
    from pumpseg_train.dataset.contact_sheet import contact_sheet
    from pumpseg_train.dataset.raw_files import read_files

    splits = read_files(arguments.data)
    check_output(arguments.out, chain.from_iterable(split.paths for split in splits))
    if arguments.split is not None:
        splits = [split for split in splits if split.name == arguments.split]
        if not splits:
            raise PumpsegError(f"{arguments.data} has no split {arguments.split}")
    photos = [(dataset, photo) for s in splits for dataset in [read_dataset(s.folder)] for photo in dataset.photos]
    if arguments.images:
        by_name = {photo.path.name: (dataset, photo) for dataset, photo in photos}
        if missing := [name for name in arguments.images if name not in by_name]:
            raise PumpsegError(f"{arguments.data} has no image {missing[0]}")
        chosen = [by_name[name] for name in arguments.images]
    else:
        places = random.Random(arguments.seed).sample(range(len(photos)), min(arguments.count, len(photos)))
        chosen = [photos[place] for place in sorted(places)]
    sheet = contact_sheet(chosen, arguments.columns, arguments.tile)
    write_image(arguments.out, sheet)
    print(f"wrote {arguments.out}: {len(chosen)} of {len(photos)} photos")
