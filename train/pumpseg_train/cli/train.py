"""pumpseg-train: fine-tune a Mask R-CNN on a data set."""

import argparse
import sys
from pathlib import Path

from pumpseg_train.cli.command import run_command


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-train`; returns 0, 2 on bad input, 130 on Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return run_command(
        "pumpseg-train",
        lambda: _train(arguments),
        f"interrupted: the epochs that were finished are in {arguments.out}, the same line again goes on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pumpseg-train",
        description="Fine-tune a Mask R-CNN on DATA/{train,val}/images + annotations.json (COCO json). "
        "The same line again resumes an interrupted run.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set with the splits train and val")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--start", type=Path, metavar="RUN", help="an earlier run of the same classes to go on from")
    parser.add_argument("--epochs", type=int, default=24, metavar="N", help="default 24")
    parser.add_argument("--steps", type=int, default=125, metavar="N", help="batches an epoch (default 125)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default 8")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="peak, default 0.001")
    parser.add_argument("--size", type=int, default=384, metavar="PX", help="side of the input (default 384)")
    parser.add_argument("--profile", default="edge", help="architecture (default edge)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default 0")
    for name, text in (
        (
            "extras",
            "data sets worth less than DATA, such as rendered ones; their train split is drawn now and then",
        ),
        ("cutouts", "folders with annotations.json + images/ whose objects are cut out and pasted"),
        ("backgrounds", "folders of photos without any of the classes: to paste onto, and as negatives"),
    ):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="DIR", help=text)
    return parser


def _train(arguments: argparse.Namespace) -> None:
    from pumpseg_train.fit import fit
    from pumpseg_train.run import RunError, Settings

    for name in ("epochs", "steps", "batch_size", "learning_rate", "size"):
        if getattr(arguments, name) <= 0:
            raise RunError(f"--{name.replace('_', '-')} must be above 0, not {getattr(arguments, name)}")
    if arguments.seed < 0:
        raise RunError(f"--seed must be 0 or more, not {arguments.seed}")
    settings = Settings(
        data=str(arguments.data),
        extras=tuple(arguments.extras),
        cutouts=tuple(arguments.cutouts),
        backgrounds=tuple(arguments.backgrounds),
        start=str(arguments.start or ""),
        profile=arguments.profile,
        input_size=arguments.size,
        epochs=arguments.epochs,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )
    fit(settings, arguments.out, verbose=1 if sys.stdout.isatty() else 2)
    print(f"done: the best model is in {arguments.out}; pumpseg-export {arguments.out} -o model.onnx")


if __name__ == "__main__":
    sys.exit(main())
