"""Writes docs/api.md from the docstrings of everything that pumpseg, pumpseg.zones and pumpseg.video export.

python docs/make_api.py
"""

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pumpseg
import pumpseg.video
import pumpseg.zones

PAGE = Path(__file__).with_name("api.md")
MAX_WIDTH = 88
# Descriptions of parameters and fields, and of errors.
_STARTS_A_LINE = re.compile(r"\w+(, \w+)*: |Raises ")
INTRODUCTION = """# Python API

Everything that `pumpseg`, `pumpseg.zones` and `pumpseg.video` export, from their docstrings; `python docs/make_api.py`
writes this page. [in-your-program.md](in-your-program.md) has more examples.

```python
from pumpseg import Segmenter

segmenter = Segmenter()
instances = segmenter.predict("patch.jpg")
print(instances)
```
"""


def page() -> str:
    """The page in Markdown."""
    parts = [(pumpseg, []), (pumpseg.zones, pumpseg.__all__), (pumpseg.video, pumpseg.__all__)]
    return "\n".join([INTRODUCTION, *(line for module, described in parts for line in _section(module, described))])


def _section(module: ModuleType, described: list[str]) -> Iterator[str]:
    yield f"## {module.__name__}\n"
    yield _prose(_described(module))
    for name in sorted(set(module.__all__) - set(described), key=lambda name: (name.lower(), name)):
        value = getattr(module, name)
        yield f"### {name}\n"
        if inspect.isclass(value) and issubclass(value, Exception):
            yield _prose(_described(value))
            continue
        yield _fence("python", _signature(name, value))
        yield _prose(_described(value))
        if inspect.isclass(value):
            for member, content in vars(value).items():
                if member[0] != "_":
                    yield from _member(f"{name}.{member}", content)


def _member(name: str, member: Any) -> Iterator[str]:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    is_property = isinstance(function, (property, cached_property))
    if is_property or inspect.isfunction(function):
        yield f"#### {name}\n"
        if not is_property:
            yield _fence("python", _signature(name, function))
        yield _prose(_described(function))


class _Bare(str):
    """A text that `inspect` prints without quotes."""

    __repr__ = str.__str__


def _signature(name: str, value: Any) -> str:
    if not callable(value) or (inspect.isclass(value) and issubclass(value, Exception)):
        return name
    found = inspect.signature(value)
    parameters = []
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if parameter.name not in ("self", "cls"):
            default = _Bare("...") if inspect.isfunction(parameter.default) else parameter.default
            parameters.append(str(parameter.replace(annotation=_bare(parameter.annotation), default=default)))
    returned = "" if inspect.isclass(value) else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parameters)}){returned}"
    if len(line) <= MAX_WIDTH:
        return line
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{name}(\n{lines}){returned}"


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _described(value: Any) -> str:
    return inspect.getdoc(value) or ""


def _prose(docstring: str) -> str:
    """A docstring in Markdown: its paragraphs with the parameters each on a line of its own, its examples in fences."""
    blocks = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith(">>> "):
            blocks.append(_fence("pycon", paragraph))
            continue
        lines: list[str] = []
        for line in paragraph.splitlines():
            starts = _STARTS_A_LINE.match(line) and lines
            lines.append(("\\\n" if starts else "\n" if lines else "") + _escaped(line.strip()))
        blocks.append("".join(lines) + "\n")
    return "\n".join(blocks)


def _escaped(line: str) -> str:
    """A line of prose with what Markdown would take for markup escaped, but for code in backticks."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*<\[]|\b_|_\b)", r"\\\1", part) for part in parts)


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
