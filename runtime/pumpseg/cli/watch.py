"""The command `pumpseg-watch`: cameras that run unattended, as one TOML file says."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from pumpseg.cli.arguments import path
from pumpseg.cli.command import FAILED, CommandParser, run_command
from pumpseg.cli.interrupt import interrupt_handler
from pumpseg.cli.process import handle_signals, log_lines, stop_then_interrupt
from pumpseg.errors import PumpsegError, require

if TYPE_CHECKING:
    from pumpseg.watch.config import Config

PROGRAM = "pumpseg-watch"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns its exit code: 0 when it was stopped, 2 after an error, which is printed in one line, 130 if interrupted
    before the cameras were watched.
    """
    with handle_signals(interrupt_handler(PROGRAM)):
        return run_command(PROGRAM, lambda: _run(make_parser().parse_args(argv)))


def make_parser() -> CommandParser:
    parser = CommandParser(
        PROGRAM,
        description="Watch cameras unattended: zones, rules and events, as one TOML file says.",
        epilog="Ctrl-C and SIGTERM stop it, with exit code 0. SIGHUP reloads the model.",
        examples=["pumpseg-watch --example > cameras.toml", "pumpseg-watch cameras.toml"],
        version=True,
    )
    parser.add_argument("config", nargs="?", type=path, metavar="CAMERAS.TOML", help="the configuration")
    parser.add_argument(
        "--check", action="store_true", help="validate the configuration, print what would run, and end"
    )
    parser.add_argument(
        "--healthcheck",
        action="store_true",
        help="ask the watch that runs with this configuration whether it is well: exit code 0, or 1 if it is not",
    )
    parser.add_argument("--example", action="store_true", help="print a configuration with every key, explained")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the configuration, for editors")
    return parser


def _run(arguments: argparse.Namespace) -> int | None:
    require("pydantic", extra="watch")
    from pumpseg.watch.config import json_schema, read_config

    if arguments.schema:
        print(json.dumps(json_schema(), indent=2))
        return None
    if arguments.example:
        print(files("pumpseg.watch").joinpath("example.toml").read_text(encoding="utf-8"), end="")
        return None
    if arguments.config is None:
        raise PumpsegError(f"name a configuration; {PROGRAM} --example prints one to begin with")
    config = read_config(arguments.config)

    if arguments.healthcheck:
        return _check_health(config)

    from pumpseg.watch.check import check_classes, described
    from pumpseg.watch.memory import share_arenas
    from pumpseg.watch.run import Watch, open_segmenter

    if arguments.check:
        with open_segmenter(config, threads=1) as segmenter:
            check_classes(config, segmenter.class_names, arguments.config)
            print("\n".join(described(config, segmenter)))
        return None
    share_arenas()
    stop = threading.Event()
    with log_lines(PROGRAM), Watch(config) as watch:
        check_classes(config, watch.model.segmenter.class_names, arguments.config)
        for line in watch.addresses():
            print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
        with handle_signals(stop_then_interrupt(stop)):
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: watch.reload())
            watch.run(stop)
        print(f"{PROGRAM}: {watch.status()}; stopping", file=sys.stderr)
    return None


def _check_health(config: Config) -> int:
    if config.health is None:
        raise PumpsegError("the configuration has no [health], which would answer")
    from pumpseg.video.viewers.page_access import PageAddress
    from pumpseg.watch.health import ask

    well, status = ask(PageAddress.parse(config.health.address), config.health.token)
    print(status)
    return 0 if well else FAILED


if __name__ == "__main__":
    sys.exit(main())
