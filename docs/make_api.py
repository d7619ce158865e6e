"""Writes docs/api.md from the docstrings of everything that pumpseg, pumpseg.zones and pumpseg.video export.

python docs/make_api.py
"""

import inspect
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pumpseg
import pumpseg.video
import pumpseg.zones

PAGE = Path(__file__).with_name("api.md")
MAX_WIDTH = 110
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
    yield _fence(_described(module))
    for name in sorted(set(module.__all__) - set(described), key=lambda name: (name.lower(), name)):
        value = getattr(module, name)
        yield f"### {name}\n"
        yield _fence(_signature(name, value), _described(value))
        if inspect.isclass(value) and not issubclass(value, Exception):
            members = [_member(member, content) for member, content in vars(value).items() if member[0] != "_"]
            members = [text for text in members if text]
            if members:
                yield _fence("\n\n".join(members))


def _member(name: str, member: Any) -> str:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    if isinstance(function, (property, cached_property)):
        return _indented(name, _described(function))
    return _indented(_signature(name, function), _described(function)) if inspect.isfunction(function) else ""


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


def _indented(signature: str, docstring: str) -> str:
    return f"{signature}\n{textwrap.indent(docstring, '    ')}".rstrip()


def _fence(*parts: str) -> str:
    return "```text\n" + "\n\n".join(part for part in parts if part) + "\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
