"""README and docs against the code: command lines parse, options exist, links resolve, Python examples run."""

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg.cli import main
from pumpseg.cli.video_arguments import parse_arguments
from pumpseg.inference.model_file import find_model
from pumpseg.video import open_source
from pumpseg_train.training.run import Settings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "runtime" / "pumpseg" / "models" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
COMMANDS = {command.program: name for name, command in main.COMMANDS.items()}
PACKAGES = ("runtime", "train", "export", "benchmarks", "tests", "docs")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Programs of others, whose options are their own.
FOREIGN = ("docker ", "npm ", "pip ", "python", "rpicam-vid ", "v4l2-ctl ")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


class Parsed(Exception):
    """The parser accepted a command line."""


@pytest.fixture
def parse(monkeypatch):
    """Parses the words of a command line as its program would, and runs nothing."""
    real = argparse.ArgumentParser.parse_args

    def parse_only(parser, *arguments, **options):
        raise Parsed(real(parser, *arguments, **options))

    def parsed(words):
        if words[0] == "pumpseg" and words[1] in main.COMMANDS:
            words = [main.COMMANDS[words[1]].program, *words[2:]]
        if words[0] == "pumpseg-video":
            parse_arguments(words[1:])  # finds options that exclude each other, too
            return
        with monkeypatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
            run(words[0], words[1:])

    return parsed


@pytest.fixture(scope="module")
def options():
    """The options of all commands, as their help names them, and of the scripts of the benchmarks."""
    helps = [help_of(name) for name in ("pumpseg", *COMMANDS)]
    subcommands = re.search(r"\{([\w,-]+)\}", help_of("pumpseg-data"))[1].split(",")
    helps += [help_of("pumpseg-data", subcommand) for subcommand in subcommands]
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("[efp]*/*.py")]
    return set(OPTION.findall(" ".join(helps + scripts)))


def run(program, arguments):
    return main.run(COMMANDS[program], arguments) if program in COMMANDS else main.pumpseg(arguments)


def help_of(script, *subcommand):
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        run(script, [*subcommand, "--help"])
    return text.getvalue()


def fenced(page, language):
    return [block for found, block in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))


def command_lines(page):
    """Every pumpseg command in the shell blocks of a page, as its words.

    `...` stands for what is left out: for the values of an option after one, else for more options.
    """
    for line in "\n".join(fenced(page, "sh")).replace("\\\n", " ").splitlines():
        command = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in ("|", "&&", ">", ";"):
                if command and Path(command[0]).name in SCRIPTS:
                    yield [Path(command[0]).name, *command[1:]]
                command = []
            elif word == "..." and not command[-1].startswith("--"):
                continue
            elif command or not re.match(r"\w+=", word):
                command.append(word)


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@each_page
def test_every_command_line_parses(page, parse):
    for words in command_lines(page):
        parse(words)


def test_every_command_line_of_the_notebook_parses(parse):
    notebook = json.loads((ROOT / "docs" / "examples" / "train_a_class.ipynb").read_text(encoding="utf-8"))
    lines = "".join(f"{''.join(cell['source'])}\n" for cell in notebook["cells"]).splitlines()
    commands = [shlex.split(line[1:]) for line in lines if line.startswith("!")]
    assert len(commands) >= 6
    for words in commands:
        parse(words)


def test_command_lines_are_found():
    words = [words for page in PAGES for words in command_lines(page)]
    assert {line[0] for line in words} == set(SCRIPTS)
    assert len(words) > 40


@each_page
def test_every_option_that_is_named_exists(page, options):
    prose = [code for code in inline_code(page) if not code.startswith(FOREIGN)]
    assert {option for code in prose for option in OPTION.findall(code)} <= options


@each_page
def test_every_training_setting_that_is_named_exists(page):
    settings = dataclasses.asdict(Settings(data=""))
    augmentation = settings["augmentation"]
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"--set '?([\w.]+)=", text) + re.findall(r"\baugmentation\.\w+", text)
    for name in named:
        group, _, member = name.rpartition(".")
        assert member in (augmentation if group == "augmentation" else settings), name


@each_page
def test_links_and_anchors_resolve(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_scripts_that_a_page_runs_exist(page):
    code = [*inline_code(page), *fenced(page, "sh")]
    for script in re.findall(r"\bpython3? ((?:benchmarks|docs)/[\w/.-]+\.py)", "\n".join(code)):
        assert (ROOT / script).is_file(), script


@each_page
def test_files_that_a_page_names_exist(page):
    files = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text(encoding="utf-8")):
        assert any(path.as_posix().endswith(f"/{name}") for path in files), name


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A folder with the files that the examples read: patch.jpg, patch.mp4, mine.onnx."""
    shutil.copy(find_model("fast"), tmp_path / "mine.onnx")
    frames = [frame.image for frame, _ in zip(open_source("demo"), range(4), strict=False)]
    cv2.imwrite(str(tmp_path / "patch.jpg"), frames[0])
    writer = cv2.VideoWriter(str(tmp_path / "patch.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 24, (640, 480))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "docs/in-your-program.md", "docs/model-file.md"])
def test_the_python_examples_run(name, working_folder):
    names = {}
    blocks = fenced(ROOT / name, "python")
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), names)


def test_the_api_page_is_current():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    written = make_api.PAGE.read_text(encoding="utf-8")
    assert written == make_api.page(), "run python docs/make_api.py"
