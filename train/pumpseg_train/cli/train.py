"""pumpseg-train: fine-tune a Mask R-CNN on a data set."""

import argparse
import importlib.util
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from pumpseg.cli.arguments import count
from pumpseg.cli.command import CommandParser, when_interrupted
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import run_command

BACKENDS = ("tensorflow", "jax", "torch")


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-train`; returns 0, 2 on bad input, 130 on Ctrl-C."""

    def action() -> None:
        arguments = make_parser().parse_args(argv)
        out = arguments.out
        with when_interrupted(f"interrupted: finished epochs are in {out}, re-run the same command to resume"):
            _train(arguments)

    return run_command("pumpseg-train", action)


def make_parser() -> CommandParser:
    parser = CommandParser(
        prog="pumpseg-train",
        description="Fine-tune a Mask R-CNN on DATA/{train,val}/images + annotations.json (COCO json). "
        "Re-run the same command to resume an interrupted run; with more --epochs a finished one goes on.",
        examples=[
            "pumpseg-train data/fruit --out runs/fruit --epochs 24",
            "pumpseg-train data/fruit --out runs/fruit --init-from fast --size 384 --backgrounds photos/empty",
        ],
        version=True,
        argument_default=argparse.SUPPRESS,  # only what is given overrides the config
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="data set with the splits train and val")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, as RUN/settings.toml has them")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, in TOML: --set augmentation.mosaic_prob=0.3 --set 'precision=\"mixed_bfloat16\"'",
    )
    parser.add_argument(
        "--average-runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="do not train: make a run from the mean of these runs' weights; a run named twice counts twice",
    )
    settings = parser.add_argument_group("common settings")
    settings.add_argument(
        "--init-from",
        metavar="WEIGHTS",
        help="weights to start from: general (default), imagenet, fast, accurate, an exported ONNX file, or the folder "
        "of a run; the class layer starts from random weights if the classes differ",
    )
    settings.add_argument("--epochs", type=int, metavar="N", help="default 24")
    settings.add_argument("--steps", type=int, metavar="N", help="batches an epoch (default 125)")
    settings.add_argument("--batch-size", type=int, metavar="N", help="default 8")
    settings.add_argument("--learning-rate", type=float, metavar="R", help="peak, default 0.001")
    settings.add_argument("--size", dest="input_size", type=int, metavar="PX", help="side of the input (default 384)")
    settings.add_argument("--profile", help="architecture (default edge)")
    settings.add_argument("--patience", type=int, metavar="N", help="stop after N epochs without a better AP")
    settings.add_argument("--seed", type=int, metavar="S", help="default 0")
    for name, text in (
        ("auxiliary", "data sets worth less than DATA, such as rendered ones; samples come from their train split too"),
        ("paste-from", "folders with annotations.json + images/ whose objects are cut out and pasted"),
        (
            "distractors",
            "labelled data sets of other things: pasted too, and shown as background that has an outline",
        ),
        ("backgrounds", "folders of photos without any of the classes, to paste onto and as negatives"),
    ):
        settings.add_argument(f"--{name}", nargs="+", metavar="DIR", help=text)
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--backend", choices=BACKENDS, help="Keras backend (default: KERAS_BACKEND or tensorflow)")
    machine.add_argument(
        "--workers",
        type=count,
        default=0,
        metavar="N",
        help="processes that draw the samples, for a GPU that waits for them (default: threads of this process)",
    )
    machine.add_argument(
        "--distributed",
        action="store_true",
        default=False,
        help="split each batch over all devices of this machine (backend jax)",
    )
    return parser


def _train(arguments: argparse.Namespace) -> None:
    given = vars(arguments)
    if backend := given.pop("backend", None):
        _choose_backend(backend)
    from pumpseg_train.training.run import make_settings, read_toml

    if runs := given.pop("average_runs", None):
        _average(runs, given)
        return
    out, distributed, workers = given.pop("out"), given.pop("distributed"), given.pop("workers")
    changes = [_assignment(text) for text in given.pop("set")]
    config = given.pop("config", None)
    values: dict[str, Any] = read_toml(config) if config else {}
    for name in ("classes", "average_runs"):  # a run's own settings.toml records them
        values.pop(name, None)
    for change in changes:
        _merge(values, change)
    values.update(given)
    settings = make_settings(values, str(config or "settings"))

    from pumpseg_train.progress import StderrProgress
    from pumpseg_train.training.fit import fit

    fit(settings, out, workers=workers, distributed=distributed, progress=StderrProgress())
    print(f"done: the best model is in {out}; pumpseg-export {out} -o model.onnx")


def _average(runs: list[Path], given: dict[str, Any]) -> None:
    """Raises PumpsegError for training options given with --average-runs."""
    from pumpseg_train.training.average import average

    out, data = given.pop("out"), given.pop("data", None)
    for name, value in given.items():
        if value or name not in ("set", "distributed", "workers"):
            raise PumpsegError(f"--average-runs does not train: leave --{name.replace('_', '-')} out")
    mask = average(runs, out, Path(data) if data else None).mask
    print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")
    print(f"done: the mean of {len(runs)} runs is in {out}; pumpseg-export {out} -o model.onnx")


def _choose_backend(name: str) -> None:
    """Makes TensorFlow, JAX or PyTorch the backend of Keras, which reads the choice when it is first imported.

    Raises PumpsegError if it is not installed, or Keras was imported with another.
    """
    if importlib.util.find_spec(name) is None:
        raise PumpsegError(f"--backend {name}: {name} is not installed: pip install {name}")
    os.environ["KERAS_BACKEND"] = name
    import keras

    if keras.backend.backend() != name:
        raise PumpsegError(f"--backend {name}: Keras already runs on {keras.backend.backend()}")


def _assignment(text: str) -> dict[str, Any]:
    """`augmentation.mosaic_prob=0.3` as the nested dictionary that TOML reads."""
    from pumpseg_train.training.run import RunError

    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise RunError(f"--set {text:.100}: not NAME=VALUE in TOML ({error})") from None
    except RecursionError:
        raise RunError(f"--set {text:.100}: nested too deeply") from None


def _merge(values: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


if __name__ == "__main__":
    sys.exit(main())
