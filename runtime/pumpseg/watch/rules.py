"""Rules in words: what must be seen for an event.

    count(gate) of pumpkin >= 3 for 5 s
    occupancy(field) > 60% for 1 min
    dwell(bench) > 60 s
    crossed(road) in of pumpkin, gourd
    entered(gate)      left(gate)      new object
    camera lost for 10 s               camera back

The grammar, in which words may be in capitals or not, and spaces do not matter:

    rule       = state ["for" duration] | event
    state      = "count" ["(" zone ")"] [classes] comparison number
               | "occupancy" "(" zone ")" (">" | ">=" | "<" | "<=") (number | number "%")
               | "camera" "lost"
    event      = "dwell" "(" zone ")" [classes] (">" | ">=") duration
               | "crossed" "(" line ")" ["in" | "out"] [classes]
               | "entered" "(" zone ")" [classes]  |  "left" "(" zone ")" [classes]
               | "new" "object" [classes]
               | "camera" "back"
    classes    = "of" class {"," class}
    comparison = ">" | ">=" | "<" | "<=" | "==" | "!="
    duration   = number ("s" | "min" | "h")

A zone, line or class is a word of letters, digits, "_" and "-", or any text in double quotes.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from pumpseg.errors import OptionError

Subject = Literal[
    "count", "occupancy", "dwell", "crossed", "entered", "left", "new object", "camera lost", "camera back"
]
STATES: tuple[Subject, ...] = ("count", "occupancy", "camera lost")
"""What lasts, as opposed to what happens; only this may be followed by "for"."""
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}

_SUBJECTS: tuple[Subject, ...] = get_args(Subject)
_WORD = r"[^\W\d][\w-]*"
_TOKEN = re.compile(
    rf"""\s* (?: (?P<number> \d+(?:\.\d+)? | \.\d+ ) | (?P<word> {_WORD} ) | "(?P<quoted> [^"]* )"
    | (?P<sign> [<>=!]= | [<>=(),%] ) | (?P<other> \S ) )""",
    re.VERBOSE,
)


class RuleError(OptionError):
    """A rule that is not understood. position: of the character that is wrong, from 1."""

    def __init__(self, text: str, position: int, message: str) -> None:
        super().__init__(f"rule {text!r}, character {position}: {message}")
        self.position = position


@dataclass(frozen=True)
class Rule:
    """A rule, see this module.

    text: as it was written. place: name of the zone or line, None for the whole frame. classes: empty for all.
    comparison, threshold: of states and "dwell", whose threshold is in seconds. direction: of "crossed", None for both.
    duration: seconds for which a state must last.
    """

    text: str = field(compare=False)
    subject: Subject
    place: str | None = None
    classes: tuple[str, ...] = ()
    comparison: str | None = None
    threshold: float | None = None
    direction: str | None = None
    duration: float = 0.0
    _positions: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def needs_tracks(self) -> bool:
        """Whether it is about instances that must have track ids."""
        return self.subject in ("dwell", "crossed", "entered", "left", "new object")

    def check(self, zones: Collection[str], lines: Collection[str], class_names: Collection[str]) -> None:
        """Raise RuleError if it names a zone, line or class that is not among these names."""
        if self.place is not None:
            kind, names = ("line", lines) if self.subject == "crossed" else ("zone", zones)
            self._check_name(kind, self.place, names)
        for name in self.classes:
            self._check_name("class", name, class_names)

    def compare(self, value: float) -> bool:
        """Whether a value, or the seconds of a stay, fulfils the comparison."""
        assert self.comparison is not None and self.threshold is not None
        return COMPARISONS[self.comparison](value, self.threshold)

    def __str__(self) -> str:
        """The rule in its usual form, which parses to the same."""
        text: str = self.subject
        text += "" if self.place is None else f"({_name(self.place)})"
        text += "" if self.direction is None else f" {self.direction}"
        text += f" of {', '.join(map(_name, self.classes))}" if self.classes else ""
        if self.threshold is not None:
            text += f" {self.comparison} {_number(self.threshold)}{' s' if self.subject == 'dwell' else ''}"
        return text + (f" for {_number(self.duration)} s" if self.duration else "")

    def _check_name(self, kind: str, name: str, names: Collection[str]) -> None:
        if name not in names:
            known = f"; there are {', '.join(names)}" if names else ""
            raise RuleError(self.text, self._positions[name], f"there is no {kind} {_name(name)}{known}")


@dataclass(frozen=True)
class _Token:
    """kind: "number", "word", "quoted", "sign", "other" or "end". position: of its first character, from 1."""

    kind: str
    text: str
    position: int


def parse_rule(text: str) -> Rule:
    """The rule in a text, see this module. Raises RuleError."""
    return _Parser(text).rule()


class _Parser:
    """Reads one rule, token by token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = []
        for found in _TOKEN.finditer(text):
            kind = found.lastgroup or "other"
            self._tokens.append(_Token(kind, found[kind], found.start(kind) + 1 - (kind == "quoted")))
        self._tokens.append(_Token("end", "", len(text) + 1))
        self._next = 0
        self._positions: dict[str, int] = {}

    def rule(self) -> Rule:
        subject = self._subject()
        place, comparison, threshold, direction = None, None, None, None
        if subject in ("occupancy", "dwell", "crossed", "entered", "left"):
            self._expect("(")
            place = self._place(subject)
        elif subject == "count" and self._take("("):
            place = self._place(subject)
        if subject == "crossed":
            direction = "in" if self._take("in") else "out" if self._take("out") else None
        classes = self._classes(subject)
        if subject == "count":
            comparison, threshold = self._comparison(*COMPARISONS), self._whole_number()
        elif subject == "occupancy":
            comparison, threshold = self._comparison(">", ">=", "<", "<="), self._share()
        elif subject == "dwell":
            comparison, threshold = self._comparison(">", ">="), self._duration()
        duration = 0.0
        at = self._peek().position
        if self._take("for"):
            if subject not in STATES:
                raise self._error(f'{subject} happens in a moment, so "for" does not go with it', at)
            duration = self._duration()
        if self._peek().kind != "end":
            raise self._expected('"for" or the end' if subject in STATES else "the end")
        return Rule(self._text, subject, place, classes, comparison, threshold, direction, duration, self._positions)

    def _subject(self) -> Subject:
        for subject in _SUBJECTS:
            words = subject.split()
            if [self._peek(i).text.lower() for i in range(len(words))] == words:
                self._next += len(words)
                return subject
        first = self._peek().text.lower()
        several = [subject for subject in _SUBJECTS if subject.split()[0] == first]
        if several:
            self._next += 1
        raise self._expected(" or ".join(f'"{text.split()[-1]}"' for text in several) or ", ".join(_SUBJECTS))

    def _place(self, subject: Subject) -> str:
        name = self._name("a line" if subject == "crossed" else "a zone")
        self._expect(")")
        return name

    def _classes(self, subject: Subject) -> tuple[str, ...]:
        at = self._peek().position
        if not self._take("of"):
            return ()
        if subject == "occupancy":
            raise self._error("occupancy is that of all classes of the zone: give the zone the classes", at)
        if subject.startswith("camera"):
            raise self._error("a camera has no classes", at)
        names = [self._name("a class")]
        while self._take(","):
            names.append(self._name("a class"))
        return tuple(names)

    def _name(self, what: str) -> str:
        token = self._peek()
        if token.kind not in ("word", "quoted") or not token.text:
            quotes = " (in double quotes, as it begins with a digit)" if token.kind == "number" else ""
            raise self._expected(f"the name of {what}{quotes}")
        self._next += 1
        self._positions.setdefault(token.text, token.position)
        return token.text

    def _comparison(self, *allowed: str) -> str:
        token = self._peek()
        if token.text not in allowed:
            raise self._expected(", ".join(allowed[:-1]) + f" or {allowed[-1]}")
        self._next += 1
        return token.text

    def _number(self, what: str) -> float:
        token = self._peek()
        if token.kind != "number":
            raise self._expected(what)
        self._next += 1
        return float(token.text)

    def _whole_number(self) -> float:
        token = self._peek()
        number = self._number("a whole number")
        if number != math.floor(number) or not math.isfinite(number):
            raise self._error(f"a count is a whole number, got {token.text}", token.position)
        return number

    def _share(self) -> float:
        token = self._peek()
        number = self._number("a share such as 0.6 or 60%")
        if self._take("%"):
            number /= 100
        if not 0 <= number <= 1:
            raise self._error("a share is from 0 to 1, or from 0% to 100%", token.position)
        return number

    def _duration(self) -> float:
        token = self._peek()
        number = self._number("a duration such as 5 s")
        unit = self._peek()
        if unit.kind != "word" or unit.text.lower() not in UNITS:
            raise self._expected(f"a unit of time ({', '.join(UNITS)})")
        self._next += 1
        seconds = number * UNITS[unit.text.lower()]
        if not 0 < seconds < math.inf:
            raise self._error("a duration is above 0", token.position)
        return seconds

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self, text: str) -> bool:
        """Whether the next token is this one, which is then passed."""
        token = self._peek()
        if token.kind not in ("word", "sign") or token.text.lower() != text:
            return False
        self._next += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._expected(f'"{text}"')

    def _expected(self, what: str) -> RuleError:
        token = self._peek()
        return self._error(
            f"expected {what}, got {repr(token.text) if token.kind != 'end' else 'the end'}", token.position
        )

    def _error(self, message: str, position: int) -> RuleError:
        return RuleError(self._text, position, message)


def _name(name: str) -> str:
    return name if re.fullmatch(_WORD, name) else f'"{name}"'


def _number(value: float) -> str:
    return f"{Decimal(repr(value)).normalize():f}"  # as short as it can be, without an exponent
