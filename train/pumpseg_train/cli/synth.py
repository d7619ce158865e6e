"""pumpseg-data synth."""

import argparse
from pathlib import Path

from pumpseg.cli.arguments import count, seed, size
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import Commands

# Which options go with only one of the outputs, by argparse's names.
_OF_DATA_SET = ("count", "val_count", "paste_from", "backgrounds", "workers")
_OF_CLIP = ("truth",)


def add_synth(commands: Commands) -> None:
    parser = commands.add_parser(
        "synth",
        help="render pumpkins with exact masks",
        examples=[
            "pumpseg-data synth --out data/synth --count 200 --seed 1",
            "pumpseg-data synth --clip roll.mp4 --seconds 10 --truth roll.jsonl",
        ],
        description="Render pumpkin scenes with exact masks (--out), or a clip of rolling pumpkins (--clip).",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="data set to write; must be new or empty")
    target.add_argument("--clip", type=Path, metavar="FILE.mp4", help="H.264 clip to write")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="the same seed gives the same pictures")
    parser.add_argument("--size", type=size, default="640x480", metavar="WxH", help="pixels (default 640x480)")
    data = parser.add_argument_group("data set (--out)")
    data.add_argument("--count", type=int, metavar="N", help="train images")
    data.add_argument("--val-count", type=int, metavar="N", help="val images (default: a tenth, at least 1)")
    data.add_argument(
        "--paste-from",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folders with annotations.json + images/ whose pumpkins are placed among the rendered ones",
    )
    data.add_argument(
        "--backgrounds",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folders of photos without pumpkins, used instead of rendered surroundings",
    )
    data.add_argument("--workers", type=count, metavar="N", help="processes that render (default: one per core)")
    clip = parser.add_argument_group("clip (--clip)")
    clip.add_argument("--seconds", type=float, default=5.0, metavar="S", help="length (default 5)")
    clip.add_argument("--fps", type=int, default=24, metavar="N", help="frames per second (default 24)")
    clip.add_argument(
        "--scenario",
        choices=("passing", "crossing"),
        default="passing",
        help="pumpkins that roll past others, or that hide each other, for testing a tracker",
    )
    clip.add_argument("--truth", type=Path, metavar="FILE.jsonl", help="write exact masks, one line per frame")
    parser.set_defaults(run=_synth, if_interrupted="interrupted, nothing was written")


def _synth(arguments: argparse.Namespace) -> None:
    wrong, output = (_OF_CLIP, "--clip") if arguments.out is not None else (_OF_DATA_SET, "--out")
    for name in wrong:
        if getattr(arguments, name) is not None:
            raise PumpsegError(f"--{name.replace('_', '-')} goes with {output} only")
    from pumpseg_train.progress import StderrProgress

    if arguments.out is None:
        from pumpseg_train.synth.clip import write_clip

        write_clip(
            arguments.clip,
            seconds=arguments.seconds,
            fps=arguments.fps,
            seed=arguments.seed,
            size=arguments.size,
            scenario=arguments.scenario,
            truth=arguments.truth,
            progress=StderrProgress(),
        )
        print(f"wrote {arguments.clip}")
        return
    if arguments.count is None:
        raise PumpsegError("--out needs --count N, the number of train images")
    from pumpseg_train.synth.dataset import write_dataset
    from pumpseg_train.synth.photo_sources import load_photo_sources

    write_dataset(
        arguments.out,
        arguments.count,
        arguments.val_count,
        seed=arguments.seed,
        size=arguments.size,
        photos=load_photo_sources(arguments.paste_from or (), arguments.backgrounds or ()),
        workers=arguments.workers,
        progress=StderrProgress(),
    )
    print(f"wrote {arguments.out}")
