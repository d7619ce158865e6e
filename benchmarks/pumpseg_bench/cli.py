"""pumpseg-bench: measures execution providers and thread counts on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pumpseg.atomic_file import check_names, check_writable, write_json, write_text
from pumpseg.cli.arguments import comma_separated, count, path, whole
from pumpseg.cli.command import INTERRUPTED, CommandParser, run_command
from pumpseg.errors import MissingPackageError
from pumpseg.inference.model_file import DEFAULT_MODEL
from pumpseg.inference.providers import MAX_THREADS, PROVIDERS

PROGRAM = "pumpseg-bench"
DISTRUST = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns its exit code: 0; 1 if a row failed, fell back or disagrees with the reference; 2 after an error, reported
    in one line; 130 if interrupted.
    """

    def action() -> int:
        try:
            return _run(make_parser().parse_args(argv))
        except MissingPackageError:
            raise
        except ImportError as error:
            raise MissingPackageError(f'{error}: pip install "pumpseg[bench]"', name=error.name) from None

    return run_command(PROGRAM, action)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from pumpseg_bench import machine
    from pumpseg_bench.against import compare_reports, read_report
    from pumpseg_bench.page import page
    from pumpseg_bench.report import as_json, json_schema
    from pumpseg_bench.rounds import Plan, benchmark
    from pumpseg_bench.table import show

    if arguments.json_schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    targets = [target for target in (arguments.json, arguments.html) if target is not None]
    read = [arguments.source, *arguments.models, *([arguments.reference] if arguments.reference else [])]
    check_names(targets, map(Path, [*read, *([arguments.against] if arguments.against else [])]))
    for target in targets:
        # Fail now rather than after minutes.
        check_writable(target)
    everything = arguments.providers == ["all"]
    earlier = read_report(arguments.against) if arguments.against is not None else None
    plan = Plan(
        models=tuple(arguments.models or [DEFAULT_MODEL]),
        providers=tuple(PROVIDERS) if everything else tuple(dict.fromkeys(arguments.providers)),
        required=not everything,
        threads=tuple(arguments.threads or sorted({1, machine.usable_cores()})),
        batches=tuple(arguments.batch),
        source=arguments.source,
        frames=arguments.frames,
        reference=arguments.reference,
    )
    with _progress() as on_step:
        report = benchmark(plan, on_step=on_step)
    if earlier is not None:
        report = replace(report, against=compare_reports(report, earlier, arguments.against.name))
    if arguments.json is not None:
        write_json(arguments.json, as_json(report))
    if arguments.html is not None:
        write_text(arguments.html, page(report))
    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width.
        console = Console(width=160)
    show(report, console, operators=arguments.operators)
    if report.interrupted:
        return INTERRUPTED
    return DISTRUST if report.problems() else 0


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """Shows the current step on stderr: a bar on a terminal, elsewhere a plain line for every step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        printed = [""]

        def print_step(text: str, share: float) -> None:
            if text != printed[0]:
                printed[0] = text
                print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

        yield print_step
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda text, share: progress.update(task, description=text, completed=share)


def make_parser() -> CommandParser:
    parser = CommandParser(
        PROGRAM,
        description="Measure models on every execution provider that loads on this machine: latency, fps, memory, and "
        "whether the results are right.",
        examples=["pumpseg-bench", "pumpseg-bench fast --providers cpu,openvino --threads 1,4 --html report.html"],
        version=True,
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"names or ONNX files (default {DEFAULT_MODEL}; in int8 where Segmenter() takes that)",
    )
    parser.add_argument(
        "--providers",
        type=_providers,
        default=["all"],
        metavar="P,...",
        help=f"all (default), which also lists those that do not load, or some of {', '.join(PROVIDERS)}",
    )
    parser.add_argument(
        "--threads", type=_counts, metavar="N,...", help="threads of one inference (default: 1 and all physical cores)"
    )
    parser.add_argument(
        "--source",
        default="demo",
        metavar="SOURCE",
        help="synthetic, camera, or any source of pumpseg-video: a video, an image, a folder",
    )
    parser.add_argument("--frames", type=count, default=150, metavar="N", help="frames to measure in every row")
    parser.add_argument(
        "--batch",
        type=_counts,
        default=[1],
        metavar="N,...",
        help="frames in flight at once, each on a thread of its own; the model runs one at a time (default 1)",
    )
    parser.add_argument(
        "--reference",
        metavar="MODEL",
        help="model whose results on the CPU are the right ones, such as the float32 file of an int8 one "
        "(default: each model itself)",
    )
    parser.add_argument(
        "--against",
        type=path,
        metavar="FILE",
        help="compare with an earlier report, written by --json: of another machine, or of another version",
    )
    parser.add_argument("--operators", action="store_true", help="print the time of every operator type")
    parser.add_argument("--json", type=path, metavar="FILE", help="write the whole report as JSON")
    parser.add_argument("--json-schema", action="store_true", help="print the JSON schema of that report, and exit")
    parser.add_argument("--html", type=path, metavar="FILE", help="write the report as one page with plots")
    return parser


def _providers(text: str) -> list[str]:
    names = text.split(",")
    if "all" in names:
        return ["all"]
    for name in names:
        if name not in PROVIDERS:
            raise argparse.ArgumentTypeError(f"must be all, or some of {', '.join(PROVIDERS)}, got {name!r}")
    return names


def _counts(text: str) -> list[int]:
    return sorted(set(comma_separated(whole(1, MAX_THREADS))(text)))


if __name__ == "__main__":
    sys.exit(main())
