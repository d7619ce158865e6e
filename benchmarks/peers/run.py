"""Compares pumpseg with Ultralytics and mrcnn, and writes the tables in benchmarks/README.md. One command:

    python3 benchmarks/peers/run.py

It needs Python 3.11 to 3.13 and a network: it makes virtual environments under benchmarks/peers/build (about 7 GB, most
of it PyTorch), one for pumpseg, one for Ultralytics, whose packages and licence (AGPL-3.0) stay out of pumpseg's, and
one for Matterport's mrcnn on TensorFlow together with the profile that replaces it. What exists is reused, so the
second run takes minutes only. Run it on an otherwise idle machine.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PEER_PACKAGES = ("ultralytics>=8.4,<9", "onnx>=1.20,<2", "onnxslim>=0.1.71")
# tf-keras requires the package tensorflow, which would overwrite tensorflow-cpu.
TF_KERAS = ("--no-deps", "tf-keras==2.21.*")
SIDES = ("640", "384")
PEERS = ("ultralytics", "mrcnn")


def python_of(environment: Path) -> str:
    return str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def make_environment(environment: Path, *packages: str) -> str:
    """Make or complete a virtual environment. Returns its interpreter."""
    if not Path(python_of(environment)).is_file():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    print(f"installing {' '.join(packages)} into {environment.name}", file=sys.stderr, flush=True)
    subprocess.run([python_of(environment), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python_of(environment)


def versions(python: str, *packages: str) -> dict[str, str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    printed = subprocess.run([python, "-c", code, *packages], check=True, capture_output=True, text=True).stdout
    return dict(zip(packages, printed.split(), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "build", help="folder for environments and models")
    parser.add_argument("--threads", nargs="+", default=["1", "2"], help="default 1 2")
    parser.add_argument("--frames", default="60", help="measured of every row (default 60)")
    parser.add_argument("--source", default="demo", help="as pumpseg-bench takes it (default demo)")
    parser.add_argument(
        "--models", nargs="+", default=["fast"], help="pumpseg models; ratios are to the first on the CPU"
    )
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", help="where the tables go")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="default: all")
    parser.add_argument(
        "--instances",
        help="only frames in which the first model detects so many, others covered (default: all frames)",
    )
    arguments = parser.parse_args()
    arguments.work, arguments.readme = arguments.work.resolve(), arguments.readme.resolve()
    try:
        (arguments.work / "models").mkdir(parents=True, exist_ok=True)
        if "ultralytics" in arguments.peers:
            compare_ultralytics(arguments)
        if "mrcnn" in arguments.peers:
            compare_mrcnn(arguments)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd[:4]))} ended with code {error.returncode}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare_ultralytics(arguments: argparse.Namespace) -> None:
    """Writes the table with the YOLO models."""
    work = arguments.work
    ours = make_environment(work / "pumpseg", f"{REPOSITORY}[cpu,openvino,bench]")
    onnxruntime = versions(ours, "onnxruntime")["onnxruntime"]
    theirs = make_environment(work / "ultralytics", *PEER_PACKAGES, f"onnxruntime=={onnxruntime}")
    export = [theirs, str(HERE / "ultralytics_worker.py"), "export", str(work / "models"), *SIDES]
    subprocess.run(export, check=True, stdout=sys.stderr)
    peer_versions = ", ".join(f"{name} {number}" for name, number in versions(theirs, "ultralytics", "torch").items())
    command = [ours, str(HERE / "compare.py"), "--peers", str(work / "models"), "--peer-python", theirs]
    command += ["--peer-versions", peer_versions, "--frames", arguments.frames, "--source", arguments.source]
    command += ["--sides", *SIDES, "--threads", *arguments.threads, "--models", *arguments.models]
    if arguments.instances is not None:
        command += ["--instances", arguments.instances]
    subprocess.run([*command, "--readme", str(arguments.readme)], check=True)


def compare_mrcnn(arguments: argparse.Namespace) -> None:
    """Writes the table with Matterport's mrcnn."""
    work = arguments.work
    make_environment(work / "mrcnn", f"{REPOSITORY}[cpu,bench,export,matterport-reference]")
    python = make_environment(work / "mrcnn", *TF_KERAS)
    command = [python, str(HERE / "mrcnn_parity.py"), "--speed", "--work", str(work / "models" / "mrcnn")]
    subprocess.run([*command, "--readme", str(arguments.readme)], check=True)


if __name__ == "__main__":
    sys.exit(main())
