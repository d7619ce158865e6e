"""pumpseg-export: a training run, or weights of Matterport's mrcnn, to one verified, self-describing ONNX file."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from pumpseg.atomic_file import check_names, check_writable
from pumpseg.cli.arguments import count, size_or_side
from pumpseg.cli.command import CommandParser
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import run_command
from pumpseg_train.cli.weights import WEIGHTS_OPTIONS, add_weights_options, describe_weights, input_size, is_weights

CALIBRATION_METHODS = ("minmax", "percentile", "entropy")
TRIED = CALIBRATION_METHODS[:2]
INT8_OPTIONS = ("calibrate", "calibration_method", "calibration_photos", "max_ap_loss", "allow_ap_loss")


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-export`; returns 0, 2 on bad input or a file that disagrees with Keras, 130 on Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return run_command("pumpseg-export", lambda: _export(arguments), "interrupted, nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="pumpseg-export",
        description="Write the best model of a training run, or the weights of Matterport's mrcnn, as one ONNX file. "
        "The file is run beside Keras on photos, and kept only if both agree; where those are a data set, its AP on "
        "them goes into its metadata. With --int8 also of a file that this command has written.",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN|WEIGHTS.h5|FILE.onnx",
        help="folder that pumpseg-train wrote, or .h5; with --int8 also a float32 model file",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument(
        "--size",
        type=size_or_side,
        metavar="PX or WxH",
        help="input size (default: that of the training; 1024 for .h5)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="data set to verify and measure on (default: that of the run)"
    )
    parser.add_argument("--split", default="val", help="its split (default val)")
    parser.add_argument("--float16", action="store_true", help="store weights in half precision: half the size")
    parser.add_argument("--licence", default="", help="licence of the weights, for the metadata")
    int8 = parser.add_argument_group("int8")
    int8.add_argument(
        "--int8", action="store_true", help="compute in int8: faster where a CPU has VNNI or dot products"
    )
    int8.add_argument(
        "--calibrate",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="images, or folders of them, like those to come",
    )
    int8.add_argument(
        "--calibration-method",
        choices=CALIBRATION_METHODS,
        help=f"how ranges follow from them (default: {TRIED[0]}, and {TRIED[1]} where that loses too much on DATA)",
    )
    int8.add_argument("--calibration-photos", type=count, metavar="N", help="take N of them (default 200)")
    int8.add_argument(
        "--max-ap-loss", type=float, metavar="AP", help="mask AP that int8 may lose on DATA, 0..1 (default 0.01)"
    )
    int8.add_argument("--allow-ap-loss", action="store_true", help="warn of a greater loss, but write the file")
    weights = add_weights_options(parser)
    weights.add_argument("--score", type=float, metavar="S", help="DETECTION_MIN_CONFIDENCE (default 0.7)")
    weights.add_argument(
        "--photos", type=Path, nargs="+", default=[], metavar="PATH", help="images, or folders of them, to verify on"
    )
    return parser


def _export(arguments: argparse.Namespace) -> None:
    _check_together(arguments)
    if not arguments.int8:
        _export_float32(arguments, arguments.output, float16=arguments.float16)
    elif _is_model_file(arguments.source):
        _export_int8(arguments, arguments.source)
    else:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "float32.onnx"
            _export_float32(arguments, plain, float16=False)
            _export_int8(arguments, plain)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")


def _check_together(arguments: argparse.Namespace) -> None:
    """Raise PumpsegError for options that do not go together."""

    def refuse(names: tuple[str, ...], why: str) -> None:
        for name in names:
            if getattr(arguments, name) not in (None, [], False, ""):
                raise PumpsegError(f"--{name.replace('_', '-')} goes with {why}")

    if not arguments.source.exists():
        raise PumpsegError(f"no such file or folder: {arguments.source}")
    check_names([arguments.output], [arguments.source])
    if not is_weights(arguments.source):
        refuse((*WEIGHTS_OPTIONS, "score", "photos"), f"a .h5 file, and {arguments.source} is none")
    if _is_model_file(arguments.source):
        refuse(("size", "licence"), f"a training run or .h5 file, and {arguments.source} is a model file")
    if arguments.int8:
        if not arguments.calibrate:
            raise PumpsegError("--int8 needs photos like those to come: --calibrate PATH...")
        if arguments.max_ap_loss is not None and not 0 <= arguments.max_ap_loss <= 1:
            raise PumpsegError(f"--max-ap-loss must lie in 0..1, not {arguments.max_ap_loss}")
        # Better told now than after minutes.
        _images(arguments.calibrate)
        check_writable(arguments.output)
        return
    refuse(INT8_OPTIONS, "--int8")
    if _is_model_file(arguments.source):
        raise PumpsegError(f"{arguments.source} is a model file already; only --int8 makes another of it")


def _is_model_file(source: Path) -> bool:
    return source.suffix.lower() == ".onnx"


def _export_float32(arguments: argparse.Namespace, output: Path, *, float16: bool) -> None:
    common = {
        "data": arguments.data,
        "split": arguments.split,
        "float16": float16,
        "licence": arguments.licence,
    }
    if is_weights(arguments.source):
        report = _export_weights(arguments, output, common)
    else:
        from pumpseg_export.export import export_run

        report = export_run(arguments.source, output, size=input_size(arguments.size), **common)
    agreement = report.agreement
    print(
        f"verified on {agreement.photos} photos: {agreement.agreeing} of {agreement.detections} detections agree with "
        f"Keras (differing by at most {agreement.box:.3g} px, score {agreement.score:.3g}, mask {agreement.mask:.3g})"
    )
    if report.metrics:
        mask = report.metrics.mask
        print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")


def _export_int8(arguments: argparse.Namespace, plain: Path) -> None:
    from pumpseg_export.int8 import Calibration, export_int8

    data = arguments.data
    if data is None and arguments.source.is_dir():
        from pumpseg_train.training.run import read_settings

        data = Path(read_settings(arguments.source).data)
    methods = (arguments.calibration_method,) if arguments.calibration_method else TRIED
    report = export_int8(
        plain,
        arguments.output,
        Calibration(_images(arguments.calibrate), arguments.calibration_photos or 200, methods),
        data=data,
        split=arguments.split,
        max_ap_loss=0.01 if arguments.max_ap_loss is None else arguments.max_ap_loss,
        allow_ap_loss=arguments.allow_ap_loss,
        float16=arguments.float16,
    )
    print(f"int8: {' and '.join(report.parts)}, calibrated on {report.photos} photos ({report.method})")
    if report.float32 and report.int8:
        print(f"mask AP {report.float32.mask.ap:.3f} in float32, {report.int8.mask.ap:.3f} in int8")
    else:
        print("its AP was not measured: name a data set with --data")
    if report.lossy:
        print(f"warning: int8 loses {report.loss:.3f} mask AP", file=sys.stderr)


def _export_weights(arguments: argparse.Namespace, output: Path, common: dict[str, Any]) -> Any:
    from pumpseg_export.export import export_weights

    profile, names = describe_weights(arguments.source, arguments, arguments.score)
    return export_weights(arguments.source, output, profile, names, photos=_images(arguments.photos), **common)


def _images(paths: list[Path]) -> list[Path]:
    from pumpseg.images import IMAGE_SUFFIXES

    images: list[Path] = []
    for path in paths:
        if not path.exists():
            raise PumpsegError(f"no such file or folder: {path}")
        children = [path] if path.is_file() else sorted(path.iterdir())
        images += [child for child in children if child.suffix.lower() in IMAGE_SUFFIXES]
    if paths and not images:
        raise PumpsegError(f"{', '.join(map(str, paths))}: no images there")
    return images


if __name__ == "__main__":
    sys.exit(main())
