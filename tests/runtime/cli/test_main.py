"""One command for all: `pumpseg video` is `pumpseg-video`."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pumpseg.cli.main import COMMANDS, pumpseg

SCRIPTS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "scripts"
]
HEAVY = {"numpy", "cv2", "onnxruntime", "av", "keras", "tensorflow", "pydantic", "importlib.metadata"}


def parsers():
    """Every parser, that of a subcommand too, by the words that lead to it."""

    def walk(words, parser):
        yield words, parser
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            for name, child in action.choices.items():
                yield from walk(f"{words} {name}", child)

    for name, command in COMMANDS.items():
        yield from walk(name, importlib.import_module(command.module).make_parser())


PARSERS = dict(parsers())
each_parser = pytest.mark.parametrize("words", PARSERS)


def told(arguments, capsys, entry=pumpseg):
    """Exit code, standard output and standard error."""
    try:
        code = entry(arguments)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_the_six_names_are_commands_of_pumpseg(capsys):
    scripts = {name.removeprefix("pumpseg-"): place for name, place in SCRIPTS.items() if name != "pumpseg"}
    assert scripts.keys() <= COMMANDS.keys()
    assert len(scripts) >= 6
    for name, place in scripts.items():
        module, _, function = place.partition(":")
        alone = told(["--help"], capsys, getattr(importlib.import_module(module), function))
        assert alone == told([name, "--help"], capsys)
        assert alone[0] == 0
        assert f"usage: pumpseg-{name} " in alone[1]
        assert COMMANDS[name].program == f"pumpseg-{name}"


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_has_the_version(name, capsys):
    code, out, err = told([*filter(None, [name]), "--version"], capsys)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"pumpseg \d+\.\d+\.\S+\n", out)


@each_parser
def test_help_begins_with_two_examples_that_work(words, capsys):
    parser = PARSERS[words]
    text = parser.format_help()
    assert text.startswith("examples:\n  pumpseg")
    assert len(parser.examples) >= 2
    for example in parser.examples:
        line = shlex.split(example, comments=True)
        line = line[: next((i for i, word in enumerate(line) if word in (">", "&&", "|")), None)]
        name = line[0].removeprefix("pumpseg-")
        rest = line[1:] if name in COMMANDS else line[2:]
        assert f"  {example}\n" in text
        assert (name if name in COMMANDS else line[1]) == words.split()[0]
        top = PARSERS[words.split()[0]]
        top.parse_args(rest)


@each_parser
def test_help_shows_every_default(words):
    parser = PARSERS[words]
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.default not in (None, False, (), [], "", "==SUPPRESS=="):
            assert "default" in formatter._expand_help(action), action.option_strings


def test_the_list_of_commands_is_in_the_help(capsys):
    code, out, _ = told(["--help"], capsys)
    assert code == 0
    assert out.startswith("examples:\n  pumpseg")
    for name, command in COMMANDS.items():
        assert re.search(rf"^ +{name}\s+{command.help.split()[0]}", out, re.MULTILINE)


@pytest.mark.parametrize("line", [[], ["vidoe"], ["--nonsense"]])
def test_a_wrong_line_is_one_line(line, capsys):
    code, out, err = told(line, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("pumpseg: error: ")


@pytest.mark.parametrize("line", ["--version", "--help", "vidoe"])
def test_what_needs_no_command_imports_nothing_heavy(line):
    program = f"""
import sys
from pumpseg.cli.main import pumpseg
try:
    pumpseg(sys.argv[1:])
finally:
    print(*sorted(set({sorted(HEAVY)!r}) & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, line], capture_output=True, text=True, timeout=300, check=False
    )
    loaded = set((done.stdout.splitlines() or [""])[-1].split())
    assert loaded <= ({"importlib.metadata"} if line == "--version" else set())


def test_python_m_pumpseg_is_the_command():
    done = subprocess.run([sys.executable, "-m", "pumpseg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pumpseg ")


def test_without_opencv_every_command_is_one_line():
    program = """
import sys
from pumpseg.cli.main import run
sys.modules["cv2"] = None
lines = {"video": "demo", "data": "check x", "train": "x --out y", "eval": "fast x", "export": ". -o y", "bench": ""}
print([run(name, line.split()) for name, line in lines.items()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"{[2] * 6}\n"
    errors = done.stderr.splitlines()
    for name, error in zip(("video", "data", "train", "eval", "export", "bench"), errors, strict=True):
        assert error.startswith(f"pumpseg-{name}: error: cv2 cannot be imported")
        assert "pip install" in error
