"""pumpseg-train: fine-tune a Mask R-CNN on a data set."""

import argparse
import importlib.util
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from pumpseg.cli.arguments import count
from pumpseg.cli.command import CommandParser
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import run_command

BACKENDS = ("tensorflow", "jax", "torch")


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-train`; returns 0, 2 on bad input, 130 on Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return run_command(
        "pumpseg-train",
        lambda: _train(arguments),
        f"interrupted: the epochs that were finished are in {arguments.out}, the same line again goes on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="pumpseg-train",
        description="Fine-tune a Mask R-CNN on DATA/{train,val}/images + annotations.json (COCO json). "
        "The same line again resumes an interrupted run.",
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
        help="any other setting, as TOML writes it: --set recipe.mosaic_share=0.3 --set 'precision=\"mixed_bfloat16\"'",
    )
    parser.add_argument(
        "--average",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="train nothing: make a run of the mean of these runs' weights; one that is named twice counts twice",
    )
    settings = parser.add_argument_group("settings that are often changed")
    settings.add_argument("--start", metavar="RUN", help="an earlier run of the same classes to go on from")
    settings.add_argument("--epochs", type=int, metavar="N", help="default 24")
    settings.add_argument("--steps", type=int, metavar="N", help="batches an epoch (default 125)")
    settings.add_argument("--batch-size", type=int, metavar="N", help="default 8")
    settings.add_argument("--learning-rate", type=float, metavar="R", help="peak, default 0.001")
    settings.add_argument("--size", dest="input_size", type=int, metavar="PX", help="side of the input (default 384)")
    settings.add_argument("--profile", help="architecture (default edge)")
    settings.add_argument("--patience", type=int, metavar="N", help="stop after N epochs without a better AP")
    settings.add_argument("--seed", type=int, metavar="S", help="default 0")
    for name, text in (
        ("extras", "data sets worth less than DATA, such as rendered ones; their train split is drawn now and then"),
        ("cutouts", "folders with annotations.json + images/ whose objects are cut out and pasted"),
        (
            "others",
            "labelled sets of other things: pasted too, and shown as what has an outline but is not to be found",
        ),
        ("backgrounds", "folders of photos without any of the classes: to paste onto, and as negatives"),
    ):
        settings.add_argument(f"--{name}", nargs="+", metavar="DIR", help=text)
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--backend", choices=BACKENDS, help="what Keras computes with (default: KERAS_BACKEND or tensorflow)"
    )
    machine.add_argument(
        "--workers",
        type=count,
        default=0,
        metavar="N",
        help="processes that draw the samples, for a GPU that has to wait for them (default: threads of this one)",
    )
    machine.add_argument(
        "--distributed",
        action="store_true",
        default=False,
        help="share each batch among all devices of this machine (backend jax)",
    )
    return parser


def _train(arguments: argparse.Namespace) -> None:
    given = vars(arguments)
    if backend := given.pop("backend", None):
        _choose_backend(backend)
    from pumpseg_train.training.run import make_settings, read_toml

    if runs := given.pop("average", None):
        _average(runs, given)
        return
    out, distributed, workers = given.pop("out"), given.pop("distributed"), given.pop("workers")
    changes = [_assignment(text) for text in given.pop("set")]
    config = given.pop("config", None)
    values: dict[str, Any] = read_toml(config) if config else {}
    for name in ("classes", "average"):  # a run's own settings.toml records them
        values.pop(name, None)
    for change in changes:
        _merge(values, change)
    values.update(given)
    settings = make_settings(values, str(config or "settings"))

    from pumpseg_train.training.fit import fit

    fit(settings, out, workers=workers, distributed=distributed, verbose=1 if sys.stdout.isatty() else 2)
    print(f"done: the best model is in {out}; pumpseg-export {out} -o model.onnx")


def _average(runs: list[Path], given: dict[str, Any]) -> None:
    """Raises PumpsegError for options of a training beside --average."""
    from pumpseg_train.training.average import average

    out, data = given.pop("out"), given.pop("data", None)
    for name, value in given.items():
        if value or name not in ("set", "distributed", "workers"):
            raise PumpsegError(f"--average trains nothing: leave {name.replace('_', ' ')} out")
    mask = average(runs, out, Path(data) if data else None).mask
    print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")
    print(f"done: the mean of {len(runs)} runs is in {out}; pumpseg-export {out} -o model.onnx")


def _choose_backend(name: str) -> None:
    """Let Keras compute with TensorFlow, JAX or PyTorch, which it decides on when it is imported first.

    Raises PumpsegError if that is not installed, or Keras was imported with another.
    """
    if importlib.util.find_spec(name) is None:
        raise PumpsegError(f"--backend {name}: {name} is not installed: pip install {name}")
    os.environ["KERAS_BACKEND"] = name
    import keras

    if keras.backend.backend() != name:
        raise PumpsegError(f"--backend {name}: Keras computes with {keras.backend.backend()} already")


def _assignment(text: str) -> dict[str, Any]:
    """`recipe.mosaic_share=0.3` as the nested dictionary that TOML makes of it."""
    from pumpseg_train.training.run import RunError

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"--set {text}: not NAME=VALUE as TOML writes it ({error})") from None


def _merge(values: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


if __name__ == "__main__":
    sys.exit(main())
