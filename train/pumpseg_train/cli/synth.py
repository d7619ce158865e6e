"""pumpseg-data synth."""

import argparse
from pathlib import Path

from pumpseg.cli.arguments import size
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import Commands


def add_synth(commands: Commands) -> None:
    parser = commands.add_parser(
        "synth",
        help="render pumpkins with exact masks",
        description="Render pumpkin scenes with exact masks (--out), or a clip of rolling pumpkins (--clip).",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="data set to write; must be new or empty")
    target.add_argument("--clip", type=Path, metavar="FILE.mp4", help="H.264 clip to write")
    parser.add_argument("--images", type=int, metavar="N", help="train images (with --out)")
    parser.add_argument("--val-images", type=int, metavar="N", help="val images (default: a tenth, at least 1)")
    parser.add_argument(
        "--paste-from",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders with annotations.json + images/ whose pumpkins stand among the rendered ones (with --out)",
    )
    parser.add_argument(
        "--backgrounds",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders of photos without pumpkins, taken instead of rendered surroundings (with --out)",
    )
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="length of the clip (default 5)")
    parser.add_argument("--fps", type=int, default=24, metavar="N", help="frames a second of the clip (default 24)")
    parser.add_argument(
        "--scenario",
        choices=("passing", "crossing"),
        default="passing",
        help="of the clip: pumpkins that roll past others, or such that hide each other, to test a tracker with",
    )
    parser.add_argument("--truth", type=Path, metavar="FILE.jsonl", help="write the clip's exact masks, a line a frame")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same pictures")
    parser.add_argument("--size", type=size, default="640x480", metavar="WxH", help="pixels (default 640x480)")
    parser.set_defaults(run=_synth, if_interrupted="interrupted, nothing was written")


def _synth(arguments: argparse.Namespace) -> None:
    if arguments.seed < 0:
        raise PumpsegError(f"--seed {arguments.seed}: a seed is 0 or more")
    if arguments.out is not None:
        if arguments.images is None:
            raise PumpsegError("--out needs --images N, the number of train images")
        if arguments.truth is not None:
            raise PumpsegError("--truth goes with --clip: a data set has its truth in annotations.json")
        from pumpseg_train.progress import StderrProgress
        from pumpseg_train.synth.dataset import write_dataset
        from pumpseg_train.synth.photo_sources import load_photo_sources

        write_dataset(
            arguments.out,
            arguments.images,
            arguments.val_images,
            seed=arguments.seed,
            size=arguments.size,
            photos=load_photo_sources(arguments.paste_from, arguments.backgrounds),
            report=StderrProgress(),
        )
        print(f"wrote {arguments.out}")
        return
    if arguments.images is not None or arguments.val_images is not None:
        raise PumpsegError("--images and --val-images go with --out, not with --clip")
    if arguments.paste_from or arguments.backgrounds:
        raise PumpsegError("--paste-from and --backgrounds go with --out, not with --clip")
    from pumpseg_train.progress import StderrProgress
    from pumpseg_train.synth.clip import write_clip

    write_clip(
        arguments.clip,
        seconds=arguments.seconds,
        fps=arguments.fps,
        seed=arguments.seed,
        size=arguments.size,
        scenario=arguments.scenario,
        truth=arguments.truth,
        report=StderrProgress(),
    )
    print(f"wrote {arguments.clip}")
