"""The entry points: `pumpseg` with its commands, and `pumpseg-video` and the others by their own names.

A command's module is imported by its name when it is asked for. So the runtime does not depend on its siblings,
`pumpseg --version` answers at once, and Ctrl-C during the imports ends in one line.
"""

import sys

from pumpseg.cli.interrupt import InterruptsHandled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Command:
    """Where a command is: its module has `make_parser()` and `main(argv)`. program: as its messages name it."""

    def __init__(self, module: str, program: str, help: str) -> None:
        self.module, self.program, self.help = module, program, help


COMMANDS = {
    "video": Command("pumpseg.cli.video", "pumpseg-video", "segment cameras, videos and images"),
    "watch": Command("pumpseg.cli.watch", "pumpseg-watch", "watch cameras unattended, as a file says"),
    "data": Command("pumpseg_train.cli.data", "pumpseg-data", "make, convert, check and look at data sets"),
    "train": Command("pumpseg_train.cli.train", "pumpseg-train", "fine-tune a Mask R-CNN on a data set"),
    "eval": Command("pumpseg_train.cli.evaluate", "pumpseg-eval", "COCO AP and false alarms of a model"),
    "export": Command("pumpseg_export.cli", "pumpseg-export", "a training run to one ONNX file"),
    "bench": Command("pumpseg_bench.cli", "pumpseg-bench", "measure models on this machine"),
    "doctor": Command("pumpseg.cli.doctor", "pumpseg doctor", "find out what is wrong with this installation"),
    "completion": Command("pumpseg.cli.completion", "pumpseg completion", "completion of these commands in a shell"),
}


def pumpseg(argv: "Sequence[str] | None" = None) -> int:
    """Run `pumpseg COMMAND ...`; returns the exit code of the command."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return run(argv[0], argv[1:])
    with InterruptsHandled("pumpseg"):
        from pumpseg.cli.command import CommandParser, run_command

        def action() -> None:
            parser = CommandParser(
                "pumpseg",
                description="Live instance segmentation. `pumpseg COMMAND --help` describes a command.",
                examples=["pumpseg video webcam", "pumpseg doctor"],
                epilog="exit code: 0; 1 if some inputs or outputs failed, or a check found something wrong; 2 after an "
                "error; 130 if interrupted",
                version=True,
            )
            commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
            for name, command in COMMANDS.items():
                commands.add_parser(name, help=command.help)
            parser.parse_args(argv)

        return run_command("pumpseg", action)


def run(name: str, argv: "Sequence[str] | None" = None) -> int:
    """Run one of COMMANDS by its name, and return its exit code: 2 where a package that it needs is missing."""
    command = COMMANDS[name]
    with InterruptsHandled(command.program):
        from importlib import import_module

        from pumpseg.cli.command import run_command

        modules = []
        code = run_command(command.program, lambda: modules.append(import_module(command.module)))
        return code or int(modules[0].main(argv))


def video(argv: "Sequence[str] | None" = None) -> int:
    return run("video", argv)


def watch(argv: "Sequence[str] | None" = None) -> int:
    return run("watch", argv)


def data(argv: "Sequence[str] | None" = None) -> int:
    return run("data", argv)


def train(argv: "Sequence[str] | None" = None) -> int:
    return run("train", argv)


def evaluate(argv: "Sequence[str] | None" = None) -> int:
    return run("eval", argv)


def export(argv: "Sequence[str] | None" = None) -> int:
    return run("export", argv)


def bench(argv: "Sequence[str] | None" = None) -> int:
    return run("bench", argv)
