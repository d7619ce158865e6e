"""pumpseg-data convert."""

import argparse
from pathlib import Path

from pumpseg.errors import PumpsegError
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands, class_names

# The names of convert.formats.FORMATS, which is imported only when it is needed.
_FORMATS = ("coco", "via", "labelme", "yolo", "masks", "index")


def add_convert(commands: Commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="labels of other tools to COCO json, and back",
        examples=[
            "pumpseg-data convert labels/ --from labelme --out data/fruit",
            "pumpseg-data convert data/fruit --to yolo --out yolo/ --link",
        ],
        description="Convert a labelled set between formats. Every format is read and written; without --to the result "
        "is the layout that all commands take, DIR/{train,val,test}/images + annotations.json (COCO json).",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder, or a json or yaml file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must be new or empty")
    parser.add_argument("--from", dest="source_format", choices=_FORMATS, default="coco", help="format of SOURCE")
    parser.add_argument("--to", dest="target_format", choices=_FORMATS, default="coco", help="format of DIR")
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="to keep, in the order of their ids; also names the classes of labels that do not name any; or NAMES.txt",
    )
    parser.add_argument("--rename", nargs="+", default=[], metavar="OLD=NEW", help="classes; several may get one name")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"), help="of a source without splits")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the photos of COCO json")
    parser.add_argument(
        "--crowds-as-instances",
        action="store_true",
        help="take regions marked iscrowd as single objects: CVAT marks every brush mask so",
    )
    parser.add_argument("--link", action="store_true", help="hard-link the photos instead of copying them")
    parser.set_defaults(run=_run, if_interrupted="interrupted, nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    renamed = {}
    for text in arguments.rename:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise PumpsegError(f"--rename {text}: OLD=NEW is needed")
        renamed[old] = new
    from pumpseg_train.convert.formats import convert

    labelled = convert(
        arguments.source,
        arguments.out,
        arguments.source_format,
        arguments.target_format,
        split=arguments.split,
        classes=class_names(arguments.classes),
        renamed=renamed,
        images=arguments.images,
        crowds_as_instances=arguments.crowds_as_instances,
        link=arguments.link,
    )
    for note in labelled.notes:
        print(f"note: {note}")
    for split, photos in labelled.splits.items():
        regions = counted(labelled.count(split, crowd=True), "crowd region")
        print(f"{split}: {counted(len(photos), 'image')}, {counted(labelled.count(split), 'instance')}, {regions}")
    if crowds := sum(labelled.count(split, crowd=True) for split in labelled.splits):
        instances = sum(map(labelled.count, labelled.splits))
        print(
            f"warning: {crowds} of {crowds + instances} masks are regions that training ignores (iscrowd); "
            "--crowds-as-instances takes them as single objects"
        )
    print(f"wrote {arguments.out}")
