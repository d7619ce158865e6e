"""Trains a toy set of rendered pumpkins on every Keras backend, or through kills, and compares the AP.

    python benchmarks/experiments/training.py backends [--seeds 0 1 2] [--backends tensorflow jax torch]
    python benchmarks/experiments/training.py resume [--kills 2]

`backends` prints the AP of every installed backend and seed. `resume` prints the validation AP of each epoch of an
undisturbed run, of the same run again (the noise of one seed), and of one that was killed with SIGKILL in the middle of
an epoch and resumed by the same command. At 128 pixels a run takes a few minutes on two cores (XLA is slow on CPUs).
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pumpseg.cli.arguments import count, seed
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.errors import PumpsegError

BIN = Path(sys.executable).parent
EPOCHS = 4
TRAIN = ["--size", "128", "--epochs", str(EPOCHS), "--steps", "60", "--batch-size", "4", "--set", "pictures_every=0"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    backends = kinds.add_parser("backends", help="AP of every backend and seed")
    backends.set_defaults(compare=compare_backends)
    backends.add_argument("--seeds", type=seed, nargs="+", default=[0, 1])
    backends.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    resume = kinds.add_parser("resume", help="AP of a run that was killed and resumed")
    resume.set_defaults(compare=compare_resumed)
    resume.add_argument("--kills", type=count, default=2, help="how often the run is killed")
    arguments = parser.parse_args(argv)

    def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            toy = Path(folder) / "toy"
            run([BIN / "pumpseg-data", "synth", "--out", toy, "--count=48", "--val-count=16", "--size=256x256"])
            arguments.compare(arguments, toy, Path(folder))

    return run_command(parser.prog, compare)


def compare_backends(arguments: argparse.Namespace, toy: Path, folder: Path) -> None:
    print(f"{'backend':12}{'seed':>5}{'mask AP':>9}{'AP50':>7}{'images/s':>10}{'waiting':>9}")
    for backend in arguments.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend:12} is not installed")
            continue
        aps = []
        for number in arguments.seeds:
            out = folder / f"{backend}{number}"
            run([BIN / "pumpseg-train", toy, "--out", out, "--backend", backend, "--seed", number, *TRAIN])
            mask = json.loads((out / "best.json").read_text(encoding="utf-8"))["mask"]
            last = history(out)[-1]
            aps.append(mask["ap"])
            speed, waiting = float(last["images_per_second"]), float(last["waiting_share"])
            print(f"{backend:12}{number:5}{mask['ap']:9.3f}{mask['ap50']:7.3f}{speed:10.1f}{waiting:9.1%}", flush=True)
        if len(aps) > 1:
            print(f"{backend:12} mean{statistics.mean(aps):9.3f}, from {min(aps):.3f} to {max(aps):.3f}")


def compare_resumed(arguments: argparse.Namespace, toy: Path, folder: Path) -> None:
    for name, kills in (("undisturbed", 0), ("again", 0), ("killed", arguments.kills)):
        out = folder / name
        command = [BIN / "pumpseg-train", toy, "--out", out, *TRAIN, "--seed", 7]
        for number in range(kills):
            kill_after(command, out, epochs=number + 1)
        run(command)
        print(f"{name:12}" + "".join(f"{float(row['val_mask_ap']):8.4f}" for row in history(out)), flush=True)


def kill_after(command: Sequence[object], out: Path, epochs: int) -> None:
    """Starts the command and kills it shortly after its run has recorded so many epochs."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(history(out)) < epochs:
            if process.poll() is not None:
                raise PumpsegError(f"{' '.join(map(str, command))} ended by itself with code {process.returncode}")
            time.sleep(0.1)
        time.sleep(2)
        process.kill()
    print(f"killed after {epochs} of {EPOCHS} epochs", flush=True)


def history(out: Path) -> list[dict[str, str]]:
    """The recorded epochs of a run; none before the first has ended."""
    path = out / "history.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(command: Sequence[object]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PumpsegError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
