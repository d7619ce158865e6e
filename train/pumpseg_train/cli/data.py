"""pumpseg-data: make, convert, check and look at data sets."""

import sys

from pumpseg.cli.command import CommandParser, when_interrupted
from pumpseg_train.cli.autolabel import add_label_on_white, add_pseudo_label
from pumpseg_train.cli.check import add_check
from pumpseg_train.cli.command import run_command
from pumpseg_train.cli.convert import add_convert
from pumpseg_train.cli.mine_negatives import add_mine_negatives
from pumpseg_train.cli.open_images import add_open_images
from pumpseg_train.cli.show import add_show
from pumpseg_train.cli.split import add_split
from pumpseg_train.cli.stats import add_stats
from pumpseg_train.cli.synth import add_synth


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-data`; returns 0, 1 where the command found faults, 2 on bad input, 130 on Ctrl-C."""

    def action() -> int | None:
        arguments = make_parser().parse_args(argv)
        with when_interrupted(arguments.if_interrupted):
            code: int | None = arguments.run(arguments)
        return code

    return run_command("pumpseg-data", action)


def make_parser() -> CommandParser:
    parser = CommandParser(
        prog="pumpseg-data",
        description="Make, convert, check and look at data sets.",
        examples=[
            "pumpseg-data open-images --classes Pumpkin --out data/pumpkins",
            "pumpseg-data check data/pumpkins",
        ],
        version=True,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        add_open_images,
        add_convert,
        add_label_on_white,
        add_pseudo_label,
        add_mine_negatives,
        add_check,
        add_show,
        add_split,
        add_stats,
        add_synth,
    ):
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
