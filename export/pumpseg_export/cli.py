"""pumpseg-export: a training run to one verified, self-describing ONNX file."""

import argparse
import sys
from pathlib import Path

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import run_command


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-export`; returns 0, 2 on bad input or a file that disagrees with Keras, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="pumpseg-export",
        description="Write the best model of a training run as one ONNX file. The file is run beside Keras on the "
        "validation photos, and kept only if both agree; its AP on them goes into its metadata.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that pumpseg-train wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--size", metavar="PX or WxH", help="input size (default: that of the training)")
    parser.add_argument("--data", type=Path, metavar="DATA", help="data set to verify on (default: that of the run)")
    parser.add_argument("--split", default="val", help="its split (default val)")
    parser.add_argument("--float16", action="store_true", help="store weights in half precision: half the size")
    parser.add_argument("--licence", default="", help="licence of the weights, for the metadata")
    arguments = parser.parse_args(argv)
    return run_command("pumpseg-export", lambda: _export(arguments), "interrupted, nothing was written")


def _export(arguments: argparse.Namespace) -> None:
    size = _parse_size(arguments.size)
    from pumpseg_export.export import export_run

    report = export_run(
        arguments.run,
        arguments.output,
        size=size,
        data=arguments.data,
        split=arguments.split,
        float16=arguments.float16,
        licence=arguments.licence,
    )
    agreement, mask = report.agreement, report.metrics.mask
    print(
        f"verified on {agreement.photos} photos: {agreement.agreeing} of {agreement.detections} detections agree with "
        f"Keras (differing by at most {agreement.box:.3g} px, score {agreement.score:.3g}, mask {agreement.mask:.3g})"
    )
    print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    """(h, w) of "384" or "512x384" (width x height)."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise PumpsegError(f"--size {text}: expected a number of pixels, or WIDTHxHEIGHT")
    return int(sides[-1]), int(sides[0])


if __name__ == "__main__":
    sys.exit(main())
