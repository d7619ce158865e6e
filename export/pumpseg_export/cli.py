"""pumpseg-export: a training run, or weights of Matterport's mrcnn, to one verified, self-describing ONNX file."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from pumpseg.command import parse_size
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import run_command


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-export`; returns 0, 2 on bad input or a file that disagrees with Keras, 130 on Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return run_command("pumpseg-export", lambda: _export(arguments), "interrupted, nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pumpseg-export",
        description="Write the best model of a training run, or the weights of Matterport's mrcnn, as one ONNX file. "
        "The file is run beside Keras on photos, and kept only if both agree; where those are a data set, its AP on "
        "them goes into its metadata.",
    )
    parser.add_argument("source", type=Path, metavar="RUN|WEIGHTS.h5", help="folder that pumpseg-train wrote, or .h5")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--size", metavar="PX or WxH", help="input size (default: that of the training; 1024 for .h5)")
    parser.add_argument("--data", type=Path, metavar="DATA", help="data set to verify on (default: that of the run)")
    parser.add_argument("--split", default="val", help="its split (default val)")
    parser.add_argument("--float16", action="store_true", help="store weights in half precision: half the size")
    parser.add_argument("--licence", default="", help="licence of the weights, for the metadata")
    weights = parser.add_argument_group("for WEIGHTS.h5 only")
    weights.add_argument("--profile", metavar="NAME", help="matterport-resnet50 or matterport-resnet101")
    weights.add_argument("--classes", type=Path, metavar="NAMES.txt", help="a class name a line, in mrcnn's order")
    weights.add_argument("--score", type=float, metavar="S", help="DETECTION_MIN_CONFIDENCE (default 0.7)")
    weights.add_argument("--nms", type=float, metavar="IOU", help="DETECTION_NMS_THRESHOLD (default 0.3)")
    weights.add_argument("--min-side", type=int, metavar="PX", help="IMAGE_MIN_DIM (default 800)")
    weights.add_argument(
        "--photos", type=Path, nargs="+", default=[], metavar="PATH", help="images, or folders of them, to verify on"
    )
    return parser


def _export(arguments: argparse.Namespace) -> None:
    size = _input_size(arguments.size)
    common = {
        "size": size,
        "data": arguments.data,
        "split": arguments.split,
        "float16": arguments.float16,
        "licence": arguments.licence,
    }
    if arguments.source.suffix.lower() in (".h5", ".hdf5"):
        report = _export_weights(arguments, common)
    else:
        for name in ("profile", "classes", "score", "nms", "min_side", "photos"):
            if getattr(arguments, name) not in (None, []):
                raise PumpsegError(f"--{name.replace('_', '-')} goes with a .h5 file, and {arguments.source} is none")
        from pumpseg_export.export import export_run

        report = export_run(arguments.source, arguments.output, **common)
    agreement = report.agreement
    print(
        f"verified on {agreement.photos} photos: {agreement.agreeing} of {agreement.detections} detections agree with "
        f"Keras (differing by at most {agreement.box:.3g} px, score {agreement.score:.3g}, mask {agreement.mask:.3g})"
    )
    if report.metrics:
        mask = report.metrics.mask
        print(f"mask AP {mask.ap:.3f}, AP50 {mask.ap50:.3f}, AP75 {mask.ap75:.3f}")
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")


def _export_weights(arguments: argparse.Namespace, common: dict[str, Any]) -> Any:
    from pumpseg.letterbox import Rule
    from pumpseg_export.export import export_weights
    from pumpseg_train.matterport.weights_file import count_classes, read_weights
    from pumpseg_train.model.profile import PROFILES

    choices = [name for name in PROFILES if name.startswith("matterport")]
    if arguments.profile not in choices:
        raise PumpsegError(f"a .h5 file needs --profile: one of {', '.join(choices)}, not {arguments.profile}")
    if arguments.classes is None:
        raise PumpsegError("a .h5 file knows its classes by number only: give their names with --classes NAMES.txt")
    for name in ("score", "nms"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            raise PumpsegError(f"--{name} must lie in 0..1, not {value}")
    profile = PROFILES[arguments.profile]
    changed: dict[str, Any] = {"score_threshold": arguments.score, "nms_threshold": arguments.nms}
    if arguments.min_side is not None:
        changed["letterbox"] = Rule("centred", min_side=arguments.min_side)
    profile = dataclasses.replace(profile, **{name: value for name, value in changed.items() if value is not None})
    names = _read_classes(arguments.classes, count_classes(read_weights(arguments.source)))
    return export_weights(
        arguments.source, arguments.output, profile, names, photos=_images(arguments.photos), **common
    )


def _read_classes(path: Path, wanted: int | None) -> tuple[str, ...]:
    """Class names of a text file, a line each, without the background that mrcnn's lists begin with."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PumpsegError(f"cannot read the class names in {path}: {error}") from None
    names = [name for name in names if name]
    if names and names[0].lower() in ("bg", "background", "__background__") and wanted != len(names):
        names = names[1:]
    if not names:
        raise PumpsegError(f"{path} names no classes")
    if len(set(names)) < len(names):
        raise PumpsegError(f"{path} names {next(name for name in names if names.count(name) > 1)!r} twice")
    return tuple(names)


def _images(paths: list[Path]) -> list[Path]:
    from pumpseg.video.sources import IMAGE_SUFFIXES

    images: list[Path] = []
    for path in paths:
        if not path.exists():
            raise PumpsegError(f"no such file or folder: {path}")
        children = [path] if path.is_file() else sorted(path.iterdir())
        images += [child for child in children if child.suffix.lower() in IMAGE_SUFFIXES]
    if paths and not images:
        raise PumpsegError(f"{', '.join(map(str, paths))}: no images there")
    return images


def _input_size(text: str | None) -> tuple[int, int] | None:
    """(h, w) of "384" or "512x384" (width x height)."""
    if text is None:
        return None
    width, height = parse_size("--size", f"{text}x{text}" if text.isdecimal() else text)
    return height, width


if __name__ == "__main__":
    sys.exit(main())
