"""Writes the lists of error messages in docs/troubleshooting.md from the source code.

python docs/make_messages.py

A list stands between `<!-- messages: FILES OR FOLDERS -->` and `<!-- end of messages -->`, and has the messages of
these files; the longest name that fits decides. A value in a message is written as …
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("troubleshooting.md")
PACKAGES = ("runtime/pumpseg", "train/pumpseg_train", "export/pumpseg_export", "benchmarks/pumpseg_bench")
# Functions that turn a text into an error.
RAISING = {"refuse"}
LIST = re.compile(r"<!-- messages: (.+?) -->\n.*?<!-- end of messages -->", re.DOTALL)


def page() -> str:
    """The page with all lists filled in. Raises ValueError for a file whose messages no list takes."""
    text = PAGE.read_text(encoding="utf-8")
    places = [place for list_of in LIST.findall(text) for place in list_of.split()]
    found: dict[str, set[str]] = {place: set() for place in places}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if messages := set(messages_of(path.read_text(encoding="utf-8"))):
                fits = [place for place in places if name == place or name.startswith(f"{place}/")]
                if not fits:
                    raise ValueError(f"no list of {PAGE.name} has the messages of {name}")
                found[max(fits, key=len)] |= messages

    def filled(match: re.Match[str]) -> str:
        messages = sorted({message for place in match[1].split() for message in found[place]}, key=str.casefold)
        listed = "\n".join(messages)
        return (
            f"<!-- messages: {match[1]} -->\n<details><summary>{len(messages)} messages</summary>\n\n"
            f"```text\n{listed}\n```\n\n</details>\n<!-- end of messages -->"
        )

    return LIST.sub(filled, text)


def messages_of(source: str) -> Iterator[str]:
    """The messages of the errors that a Python source makes, whether it raises or returns them."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, (ast.Module, ast.FunctionDef)):
            continue
        variables = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _makes_an_error(node.func):
                for argument in node.args:
                    value = variables.get(argument.id, argument) if isinstance(argument, ast.Name) else argument
                    for text in _texts(value):
                        # A few letters of its own, and not the name of an option or of a wheel.
                        if " " in text and re.search(r"[A-Za-z]{3}", text):
                            yield text


def _makes_an_error(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.endswith(("Error", "error")) or name in RAISING


def _texts(node: ast.expr) -> Iterator[str]:
    """What a text may be, with … for each value."""
    match node:
        case ast.Constant(str(value)):
            yield re.sub(r"\{\w*\}|%[sd]", "…", " ".join(value.split()))
        case ast.JoinedStr(values):
            parts = [value.value if isinstance(value, ast.Constant) else "…" for value in values]
            yield re.sub("…+", "…", " ".join("".join(parts).split()))
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)
        case ast.Call(func=ast.Attribute(value=value, attr="format")):
            yield from _texts(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
