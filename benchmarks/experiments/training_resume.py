"""Kills a training run with SIGKILL, resumes it, and compares it with one that was left alone.

    python benchmarks/experiments/training_resume.py [--kills 2]

Prints the validation AP of each epoch of an undisturbed run, of the same run once more (the noise of one seed), and of
one that was killed in the middle of an epoch and started again with the same line.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = [
    "--size",
    "128",
    "--epochs",
    "4",
    "--steps",
    "60",
    "--batch-size",
    "4",
    "--set",
    "pictures_every=0",
    "--seed",
    "7",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2, help="how often the run is killed (default 2)")
    kills = parser.parse_args().kills
    bin_folder = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        toy = Path(scratch) / "toy"
        synth = [bin_folder / "pumpseg-data", "synth", "--out", toy, "--images", "48", "--val-images", "16"]
        subprocess.run([*map(str, synth), "--size=256x256"], check=True, capture_output=True)
        for name, times in (("undisturbed", 0), ("again", 0), ("killed", kills)):
            out = Path(scratch) / name
            command = [str(bin_folder / "pumpseg-train"), str(toy), "--out", str(out), *RUN]
            for number in range(times):
                kill_after(command, out, epochs=number + 1)
            subprocess.run(command, check=True, capture_output=True)
            rows = history(out)
            print(f"{name:12}" + "".join(f"{float(row['val_mask_ap']):8.4f}" for row in rows), flush=True)


def kill_after(command: list[str], run: Path, epochs: int) -> None:
    """Starts the command and kills it a little after its `epochs`-th epoch was recorded."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(history(run)) < epochs:
            if process.poll() is not None:
                sys.exit(f"{' '.join(command)} ended by itself with {process.returncode}")
            time.sleep(0.1)
        time.sleep(2)
        process.kill()
    print(f"killed after {epochs} of 4 epochs", flush=True)


def history(run: Path) -> list[dict[str, str]]:
    path = run / "history.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
