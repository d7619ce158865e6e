"""`pumpseg completion`: a script with which a shell completes the commands, their options and files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pumpseg.cli.arguments import path
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.cli.main import COMMANDS
from pumpseg.errors import first_line

PROGRAM = "pumpseg completion"
SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""

    def action() -> None:
        print(script(make_parser().parse_args(argv).shell))

    return run_command(PROGRAM, action)


def make_parser() -> CommandParser:
    parser = CommandParser(
        PROGRAM,
        description="Print a script that completes all commands. Save it once, for it takes a second or two to make, "
        "and load it when a shell starts; again after an update of pumpseg.",
        examples=[
            "pumpseg completion bash > ~/.pumpseg.bash && echo 'source ~/.pumpseg.bash' >> ~/.bashrc",
            "pumpseg completion zsh > ~/.pumpseg.zsh && echo 'eval \"$(<~/.pumpseg.zsh)\"' >> ~/.zshrc",
            "pumpseg completion fish > ~/.config/fish/conf.d/pumpseg.fish",
        ],
        version=True,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return parser


def script(shell: str) -> str:
    """The script for `pumpseg` and the programs of its commands; says on stderr which of them are not installed."""
    import shtab

    whole = CommandParser("pumpseg", version=True)
    commands = whole.add_subparsers()
    parsers = [whole]
    for name, command in COMMANDS.items():
        try:
            parser = import_module(command.module).make_parser()
        except ImportError as error:
            print(f"{PROGRAM}: leaving out {command.program}: {first_line(error)}", file=sys.stderr)
            continue
        for action in _actions(parser):
            if action.nargs != 0 and action.choices is None and action.type in (None, path, Path):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        commands.add_parser(name, help=command.help, parents=[parser], add_help=False)
        if command.program == f"pumpseg-{name}":
            parsers.append(parser)
    return "\n".join(shtab.complete(parser, shell) for parser in parsers)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those of a parser and of its subcommands."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += _actions(child)
    return found


if __name__ == "__main__":
    sys.exit(main())
