"""Trains one toy set on every Keras backend that is installed, with several seeds, and prints the AP side by side.

    python benchmarks/experiments/training_backends.py [--seeds 0 1 2] [--backends tensorflow jax torch]

Rendered pumpkins, 128 pixels: a few minutes a run on two cores (XLA on CPUs is slow).
"""

import argparse
import csv
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = ["--size", "128", "--epochs", "4", "--steps", "60", "--batch-size", "4", "--set", "pictures_every=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    arguments = parser.parse_args()
    bin_folder = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        toy = Path(scratch) / "toy"
        run(
            [bin_folder / "pumpseg-data", "synth", "--out", toy, "--images", "48", "--val-images", "16"],
            "--size=256x256",
        )
        print(f"{'backend':12}{'seed':>5}{'mask AP':>9}{'AP50':>7}{'images/s':>10}{'waiting':>9}")
        for backend in arguments.backends:
            if importlib.util.find_spec(backend) is None:
                print(f"{backend:12} is not installed")
                continue
            found = []
            for seed in arguments.seeds:
                out = Path(scratch) / f"{backend}{seed}"
                run([bin_folder / "pumpseg-train", toy, "--out", out, "--backend", backend, "--seed", str(seed)], *RUN)
                mask = json.loads((out / "best.json").read_text(encoding="utf-8"))["mask"]
                with (out / "history.csv").open(encoding="utf-8") as file:
                    last = list(csv.DictReader(file))[-1]
                found.append(mask["ap"])
                speed, waiting = float(last["images_per_second"]), float(last["waiting_share"])
                print(
                    f"{backend:12}{seed:5}{mask['ap']:9.3f}{mask['ap50']:7.3f}{speed:10.1f}{waiting:9.1%}", flush=True
                )
            if len(found) > 1:
                print(f"{backend:12} mean{statistics.mean(found):9.3f}, from {min(found):.3f} to {max(found):.3f}")


def run(command: list[object], *more: str) -> None:
    done = subprocess.run([*map(str, command), *more], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    main()
