"""Compares pumpseg with other packages, and writes the tables in benchmarks/README.md. One command:

    python3 benchmarks/peers/run.py

It needs Python 3.11 to 3.13 and a network: it makes virtual environments under benchmarks/peers/build (about 20 GB,
most of it PyTorch), one for pumpseg, one for each peer, so that its packages and its licence stay out of pumpseg's, and
one for Matterport's mrcnn on TensorFlow together with the profile that replaces it. What exists is reused, so the
second run takes minutes only; --prepare only makes what is missing. Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ONNX = ("onnx>=1.20,<2", "onnxscript>=0.5,<1", "onnxslim>=0.1.71", "onnxsim>=0.4.36", "onnxconverter-common>=1.16")
INT8 = ("nncf>=3.4,<4", "sympy")
# Of each peer: its packages, and the sides of its input: its own, and pumpseg's.
NETWORKS = {
    "ultralytics": (("ultralytics>=8.4,<9",), (640, 384)),
    "rfdetr": (("rfdetr[onnx]>=1.11,<2",), (312, 384)),
    "dfine": (("dfine-seg>=0.6,<0.7",), (640, 384)),
}
DISTRIBUTIONS = {"ultralytics": "ultralytics", "rfdetr": "rfdetr", "dfine": "dfine-seg"}
# tf-keras requires the package tensorflow, which would overwrite tensorflow-cpu.
TF_KERAS = ("--no-deps", "tf-keras==2.21.*")
PEERS = (*NETWORKS, "mrcnn")


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
    parser.add_argument("--threads", nargs="+", default=["1"], help="default 1")
    parser.add_argument("--frames", default="60", help="measured of every row (default 60)")
    parser.add_argument("--rounds", default="10", help="in which all rows take turns (default 10)")
    parser.add_argument("--source", default="demo", help="as pumpseg-bench takes it (default demo)")
    parser.add_argument(
        "--models", nargs="+", default=["fast-fp32", "fast-int8"], help="pumpseg's, one of each precision"
    )
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", help="where the tables go")
    parser.add_argument("--json", type=Path, help="where the figures go (default: peers.json in the folder of --work)")
    parser.add_argument("--no-readme", action="store_true", help="write the JSON only")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="default: all")
    parser.add_argument("--prepare", action="store_true", help="make environments and models, and measure nothing")
    parser.add_argument(
        "--instances", default="3", help="in view in every frame, by the first model; others are covered (default 3)"
    )
    arguments = parser.parse_args()
    arguments.work, arguments.readme = arguments.work.resolve(), arguments.readme.resolve()
    try:
        (arguments.work / "models").mkdir(parents=True, exist_ok=True)
        networks = [name for name in NETWORKS if name in arguments.peers]
        if networks:
            compare_networks(arguments, networks)
        if "mrcnn" in arguments.peers and not arguments.prepare:
            compare_mrcnn(arguments)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd[:4]))} ended with code {error.returncode}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare_networks(arguments: argparse.Namespace, names: list[str]) -> None:
    """Writes the tables with other networks."""
    work = arguments.work
    ours = make_environment(work / "pumpseg", f"{REPOSITORY}[cpu,openvino,bench]")
    runtimes = [f"{name}=={number}" for name, number in versions(ours, "onnxruntime", "openvino").items()]
    command = [ours, str(HERE / "compare.py"), "--folder", str(work / "models"), "--source", arguments.source]
    for name in names:
        packages, sides = NETWORKS[name]
        try:
            python = make_environment(work / name, *packages, *ONNX, *INT8, *runtimes)
        except subprocess.CalledProcessError:
            print(f"{name} does not install here: its rows are left out", file=sys.stderr)
            continue
        found = versions(python, DISTRIBUTIONS[name], "torch")
        described = ", ".join(f"{package} {number}" for package, number in found.items())
        peer = {"name": name, "python": python, "sides": sides, "versions": described}
        command += ["--peer", json.dumps(peer)]
    command += ["--threads", *arguments.threads, "--models", *arguments.models, "--instances", arguments.instances]
    command += ["--frames", arguments.frames, "--rounds", arguments.rounds]
    command += ["--json", str(arguments.json or work / "peers.json")]
    if arguments.prepare:
        command.append("--prepare")
    if not arguments.no_readme:
        command += ["--readme", str(arguments.readme)]
    subprocess.run(command, check=True)


def compare_mrcnn(arguments: argparse.Namespace) -> None:
    """Writes the table with Matterport's mrcnn."""
    work = arguments.work
    make_environment(work / "mrcnn", f"{REPOSITORY}[cpu,bench,export,matterport-reference]")
    python = make_environment(work / "mrcnn", *TF_KERAS)
    command = [python, str(HERE / "mrcnn_parity.py"), "--speed", "--work", str(work / "models" / "mrcnn")]
    subprocess.run([*command, "--readme", str(arguments.readme)], check=True)


if __name__ == "__main__":
    sys.exit(main())
