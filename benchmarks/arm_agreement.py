"""Do two machines detect the same? For arm_emulation.sh, and for any two of yours.

    python benchmarks/arm_agreement.py detect here.json               # on each machine
    python benchmarks/arm_agreement.py compare here.json there.json   # exit code 1 unless they agree

The shipped models run on frames of the demo clip, which each machine decodes itself. They agree by the rule of
pumpseg-bench: 98% of the instances matched, mean mask IoU 0.95.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from pumpseg.inference.cpu import int8_dot_product
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter
from pumpseg.video.sources.open import open_source

MODELS = ("fast-fp32", "fast-int8")
_STRIDE = 40


def detect(target: Path, frames: int) -> int:
    images = [frame.image for frame in islice(open_source("demo"), 0, _STRIDE * frames, _STRIDE)]
    chosen = Segmenter(provider="cpu").info
    report = {
        "machine": platform.machine(),
        "int8_dot_product": int8_dot_product(),
        "chosen": f"{chosen.precision}, {chosen.choice}",
        "models": {},
    }
    for model in MODELS:
        segmenter = Segmenter(model, provider="cpu", threads=1)
        report["models"][model] = [_instances(segmenter(image)) for image in images]
    target.write_text(json.dumps(report), encoding="utf-8")
    return 0


def _instances(found: Instances) -> dict:
    return {
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "class_ids": found.class_ids.tolist(),
        "masks": found.to_rle(),
    }


def compare(first: Path, second: Path) -> int:
    from pumpseg_bench.accuracy_check import compare as agreement_of

    reports = [json.loads(path.read_text(encoding="utf-8")) for path in (first, second)]
    for report in reports:
        print(f"{report['machine']}: Segmenter() takes {report['chosen']}")
    agreements = {model: agreement_of(reports[1]["models"][model], reports[0]["models"][model]) for model in MODELS}
    for model, agreement in agreements.items():
        print(model, json.dumps(asdict(agreement)))
    return 0 if all(agreement.agrees for agreement in agreements.values()) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    detecting = commands.add_parser("detect")
    detecting.add_argument("target", type=Path)
    detecting.add_argument("--frames", type=int, default=3, help="every 40th of the demo clip (default 3)")
    comparing = commands.add_parser("compare")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "detect":
        return detect(arguments.target, arguments.frames)
    return compare(arguments.first, arguments.second)


if __name__ == "__main__":
    sys.exit(main())
