"""pumpseg-export: a training run, or weights of Matterport's mrcnn, to one verified, self-describing ONNX file."""

import argparse
import sys
import tempfile
from pathlib import Path

from pumpseg.atomic_file import check_names, check_writable
from pumpseg.cli.arguments import count, path, share, size_or_side
from pumpseg.cli.command import CommandParser, when_interrupted
from pumpseg.errors import PumpsegError, SinkError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg.plural import counted
from pumpseg_train.cli.command import run_command
from pumpseg_train.cli.weights import WEIGHTS_OPTIONS, add_weights_options, describe_weights, input_size, is_weights

CALIBRATION_METHODS = ("minmax", "percentile", "entropy")
TRIED = CALIBRATION_METHODS[:2]
CALIBRATION_PHOTOS, MAX_AP_LOSS = 200, 0.01
INT8_OPTIONS = ("calibrate", "calibration_method", "calibration_photos", "max_ap_loss", "allow_ap_loss")


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-export`; returns 0, 2 on bad input or a file that disagrees with Keras, 130 on Ctrl-C."""

    def action() -> None:
        arguments = make_parser().parse_args(argv)
        with when_interrupted("interrupted, nothing was written"):
            _export(arguments)

    return run_command("pumpseg-export", action)


def make_parser() -> CommandParser:
    parser = CommandParser(
        prog="pumpseg-export",
        description="Write the best model of a training run, or the weights of Matterport's mrcnn, as one ONNX file. "
        "Its detections on photos are compared with those of Keras, and the file is kept only if they agree; its AP on "
        "a data set goes into its metadata. With --int8 also converts a file that this command has written.",
        examples=[
            "pumpseg-export runs/fruit -o fruit.onnx",
            "pumpseg-export fruit.onnx --int8 --calibrate photos/ --data data/fruit -o fruit-int8.onnx",
        ],
        version=True,
    )
    parser.add_argument(
        "source",
        type=path,
        metavar="RUN|WEIGHTS.h5|FILE.onnx",
        help="folder of pumpseg-train, or .h5; with --int8 also a float32 model file",
    )
    parser.add_argument("-o", "--output", type=path, required=True, metavar="FILE.onnx")
    parser.add_argument(
        "--size", type=size_or_side, metavar="PX or WxH", help="input size (default: that of the run; 1024 for .h5)"
    )
    parser.add_argument(
        "--data", type=path, metavar="DATA", help="data set to verify and measure on (default: that of the run)"
    )
    parser.add_argument("--split", default="val", help="split of DATA")
    parser.add_argument("--float16", action="store_true", help="store weights in half precision: half the size")
    parser.add_argument(
        "--static", action="store_true", help="fix the number of proposals and detections: for GPUs, as one CUDA graph"
    )
    parser.add_argument(
        "--negatives",
        type=path,
        nargs="+",
        metavar="PATH",
        help="images, or folders of them, without any of the classes: they and the photos of the split train of DATA "
        "teach a verifier, which lowers the scores of false alarms",
    )
    parser.add_argument(
        "--allow-differences", action="store_true", help="write the file even if it differs from Keras, with a warning"
    )
    parser.add_argument("--licence", default="", help="licence of the weights, for the metadata")
    parser.add_argument(
        "--recommended-threshold",
        type=share,
        metavar="S",
        help="the threshold where users name none; pumpseg-eval --negatives helps to choose it (default 0.5; with "
        "--int8 that of FILE.onnx)",
    )
    int8 = parser.add_argument_group("int8")
    int8.add_argument("--int8", action="store_true", help="compute in int8: faster on CPUs with VNNI or dot products")
    int8.add_argument(
        "--calibrate",
        type=path,
        nargs="+",
        metavar="PATH",
        help="images, or folders of them, like those the model will run on",
    )
    int8.add_argument(
        "--calibration-method",
        choices=CALIBRATION_METHODS,
        help=f"how they set the ranges (default {TRIED[0]}, then {TRIED[1]} if that loses too much AP on DATA)",
    )
    int8.add_argument(
        "--calibration-photos", type=count, metavar="N", help=f"photos to use (default {CALIBRATION_PHOTOS})"
    )
    int8.add_argument(
        "--max-ap-loss", type=share, metavar="AP", help=f"mask AP that int8 may lose on DATA (default {MAX_AP_LOSS})"
    )
    int8.add_argument("--allow-ap-loss", action="store_true", help="write the file all the same, with a warning")
    weights = add_weights_options(parser)
    weights.add_argument("--threshold", type=share, metavar="S", help="DETECTION_MIN_CONFIDENCE (default 0.7)")
    weights.add_argument(
        "--photos", type=path, nargs="+", metavar="PATH", help="images, or folders of them, to verify on"
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
            float32 = Path(folder) / "float32.onnx"
            _export_float32(arguments, float32, float16=False)
            _export_int8(arguments, float32)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")


def _check_together(arguments: argparse.Namespace) -> None:
    """Raise PumpsegError for options that do not go together, and for an output that cannot be written."""

    def refuse(names: tuple[str, ...], why: str) -> None:
        for name in names:
            if getattr(arguments, name) not in (None, False, ""):
                raise PumpsegError(f"--{name.replace('_', '-')} needs {why}")

    source, output = arguments.source, arguments.output
    if not source.exists():
        raise PumpsegError(f"no such file or folder: {source}")
    check_names([output], [source])
    if is_weights(source):
        refuse(("negatives", "static"), "a training run")
    else:
        refuse((*WEIGHTS_OPTIONS, "threshold", "photos"), f"a .h5 file, which {source} is not")
    if _is_model_file(source):
        refuse(
            ("size", "licence", "allow_differences", "negatives"),
            f"a training run or .h5 file; {source} is a model file",
        )
    if not arguments.int8:
        refuse(INT8_OPTIONS, "--int8")
        if _is_model_file(source):
            raise PumpsegError(f"{source} is already a model file; only --int8 converts one")
    elif arguments.static:
        raise PumpsegError("--static is for GPUs and --int8 for CPUs: choose one")
    elif not arguments.calibrate:
        raise PumpsegError("--int8 needs photos like those the model will run on: --calibrate PATH...")
    # Fail now rather than after minutes.
    _images(arguments.calibrate)
    _images(arguments.photos)
    _images(arguments.negatives)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {output.parent}: {error.strerror}") from None
    check_writable(output)


def _is_model_file(source: Path) -> bool:
    return source.suffix.lower() == ".onnx"


def _export_float32(arguments: argparse.Namespace, output: Path, *, float16: bool) -> None:
    from pumpseg_export.export import TrainedModel, export, run_data
    from pumpseg_train.dataset.annotations import read_dataset
    from pumpseg_train.progress import StderrProgress

    if is_weights(arguments.source):
        profile, names = describe_weights(arguments.source, arguments, arguments.threshold)
        data = read_dataset(arguments.data, arguments.split) if arguments.data else None
        trained, folder = TrainedModel.of_matterport(arguments.source, profile, names), arguments.data
    else:
        trained = TrainedModel.of_run(arguments.source)
        folder = arguments.data or run_data(arguments.source)
        data = read_dataset(folder, arguments.split)
    result = export(
        trained,
        output,
        size=input_size(arguments.size),
        photos=_images(arguments.photos),
        data=data,
        float16=float16,
        static=arguments.static,
        training=read_dataset(folder, "train") if arguments.negatives else None,
        negatives=_images(arguments.negatives),
        progress=StderrProgress(),
        licence=arguments.licence,
        recommended_threshold=arguments.recommended_threshold,
        allow_differences=arguments.allow_differences,
    )
    if result.agreement.sufficient:
        print(f"verified: {result.agreement}")
    else:
        print(f"warning: {result.agreement}", file=sys.stderr)
    if result.metrics:
        mask = result.metrics.mask
        print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")


def _export_int8(arguments: argparse.Namespace, float32: Path) -> None:
    from pumpseg_export.export import run_data
    from pumpseg_export.int8 import Calibration, export_int8
    from pumpseg_train.dataset.annotations import read_dataset

    data = arguments.data
    if data is None and arguments.source.is_dir():
        data = run_data(arguments.source)
    methods = (arguments.calibration_method,) if arguments.calibration_method else TRIED
    result = export_int8(
        float32,
        arguments.output,
        Calibration(_images(arguments.calibrate), arguments.calibration_photos or CALIBRATION_PHOTOS, methods),
        data=read_dataset(data, arguments.split) if data else None,
        max_ap_loss=MAX_AP_LOSS if arguments.max_ap_loss is None else arguments.max_ap_loss,
        allow_ap_loss=arguments.allow_ap_loss,
        float16=arguments.float16,
        recommended_threshold=arguments.recommended_threshold,
    )
    print(f"int8: {' and '.join(result.parts)}, calibrated on {counted(result.photos, 'photo')} ({result.method})")
    if result.float32 and result.int8:
        print(f"mask AP {result.float32.mask.ap:.3f} in float32, {result.int8.mask.ap:.3f} in int8")
    else:
        print("its AP was not measured: name a data set with --data")
    if result.lossy:
        print(f"warning: int8 loses {result.loss:.3f} mask AP", file=sys.stderr)


def _images(paths: list[Path] | None) -> list[Path]:
    """The images among the paths and in those that are folders. Raises PumpsegError if there are none."""
    images: list[Path] = []
    for place in paths or ():
        if not place.exists():
            raise PumpsegError(f"no such file or folder: {place}")
        children = [place] if place.is_file() else sorted(place.iterdir())
        images += [child for child in children if child.suffix.lower() in IMAGE_SUFFIXES]
    if paths and not images:
        raise PumpsegError(f"no images in {', '.join(map(str, paths))}")
    return images


if __name__ == "__main__":
    sys.exit(main())
