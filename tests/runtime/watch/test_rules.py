import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.errors import OptionError
from pumpseg.watch import rules
from pumpseg.watch.rules import COMPARISONS, STATES, Rule, RuleError, parse_rule

SUBJECTS = ["count", "occupancy", "dwell", "crossed", "entered", "left", "new object", "camera lost", "camera back"]
WORDS = st.builds(str.__add__, st.sampled_from("abZä_"), st.text("abZäß0_-", max_size=6))
NAMES = WORDS | st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1, max_size=8)
CLASSES = st.lists(NAMES, max_size=3).map(tuple)
SECONDS = st.floats(1e-3, 1e6)


@st.composite
def any_rule(draw):
    subject = draw(st.sampled_from(SUBJECTS))
    needs_place = subject in ("occupancy", "dwell", "crossed", "entered", "left")
    comparison, threshold = None, None
    if subject == "count":
        comparison, threshold = draw(st.sampled_from(list(COMPARISONS))), float(draw(st.integers(0, 10**6)))
    elif subject == "occupancy":
        comparison, threshold = draw(st.sampled_from([">", ">=", "<", "<="])), draw(st.floats(0, 1))
    elif subject == "dwell":
        comparison, threshold = draw(st.sampled_from([">", ">="])), draw(SECONDS)
    return Rule(
        text="",
        subject=subject,
        place=draw(NAMES) if needs_place or (subject == "count" and draw(st.booleans())) else None,
        classes=draw(CLASSES) if subject not in ("occupancy", "camera lost", "camera back") else (),
        comparison=comparison,
        threshold=threshold,
        direction=draw(st.sampled_from([None, "in", "out"])) if subject == "crossed" else None,
        duration=draw(st.just(0.0) | SECONDS) if subject in STATES else 0.0,
    )


@given(any_rule())
def test_every_rule_parses_from_its_usual_form(rule):
    assert parse_rule(str(rule)) == rule


@given(any_rule(), st.randoms(use_true_random=False))
def test_spaces_between_tokens_do_not_matter(rule, random):
    tokens = re.findall(r'"[^"]*"|[\w.-]+|[<>=!]+|\S', str(rule))
    loose = "".join(token + random.choice([" ", "  ", "\t"]) for token in tokens)
    assert parse_rule(loose) == rule


TOKENS = [
    "count",
    "(",
    ")",
    "gate",
    ">=",
    "3",
    "for",
    "5",
    "s",
    "of",
    ",",
    "crossed",
    "in",
    "camera",
    "lost",
    "%",
    "dwell",
]


@given(st.text(max_size=40) | st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join))
def test_any_text_is_a_rule_or_an_error_of_one_line_with_a_place(text):
    try:
        rule = parse_rule(text)
    except RuleError as error:
        assert 1 <= error.position <= len(text) + 1
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_rule(str(rule)) == rule


def test_the_rules_of_the_description_parse():
    examples = [
        text.strip()
        for line in rules.__doc__.split("The grammar")[0].splitlines()[2:]
        for text in re.split(r"\s{4,}", line.strip())
        if text
    ]
    assert len(examples) == 9
    parsed = [parse_rule(text) for text in examples]
    assert {rule.subject for rule in parsed} == set(SUBJECTS)
    assert parsed[0] == Rule(examples[0], "count", "gate", ("pumpkin",), ">=", 3.0, None, 5.0)
    assert parsed[1] == Rule(examples[1], "occupancy", "field", (), ">", 0.6, None, 60.0)
    assert parsed[3] == Rule(examples[3], "crossed", "road", ("pumpkin", "gourd"), direction="in")


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        (
            "",
            1,
            f"expected {', '.join(SUBJECTS)}, got the end",
        ),
        ("cuont(gate) > 3", 1, "expected count, occupancy"),
        ("count", 6, "expected >, >=, <, <=, == or !=, got the end"),
        ("count(gate > 3", 12, "expected \")\", got '>'"),
        ("count(gate) => 3", 13, "expected >, >=, <, <=, == or !=, got '='"),
        ("count(gate) >= 2.5", 16, "a count is a whole number, got 2.5"),
        ("count(3) > 1", 7, "expected the name of a zone (in double quotes, as it begins with a digit), got '3'"),
        ("count(gate) > 3 for 5", 22, "expected a unit of time (s, min, h), got the end"),
        ("count(gate) > 3 for 0 s", 21, "a duration is above 0"),
        ("count(gate) > 3 in", 17, "expected \"for\" or the end, got 'in'"),
        ("occupancy > 0.5", 11, "expected \"(\", got '>'"),
        ("occupancy(field) > 60", 20, "a share is from 0 to 1, or from 0% to 100%"),
        ("occupancy(field) == 0.5", 18, "expected >, >=, < or <=, got '=='"),
        ("occupancy(field) of x > 0.5", 18, "give the zone the classes"),
        ("dwell(bench) < 5 s", 14, "expected > or >=, got '<'"),
        ("crossed(road) in for 5 s", 18, 'crossed happens in a moment, so "for" does not go with it'),
        ("crossed(road) into", 15, "expected the end, got 'into'"),
        ("new thing", 5, "expected \"object\", got 'thing'"),
        ("camera on", 8, 'expected "lost" or "back", got \'on\''),
        ("camera back for 3 s", 13, "camera back happens in a moment"),
        ("camera lost of x", 13, "a camera has no classes"),
        ("entered(gate) of", 17, "expected the name of a class, got the end"),
        ('entered("")', 9, "expected the name of a zone, got ''"),
        ('count("gate) > 1', 7, "expected the name of a zone, got '\"'"),
    ],
)
def test_what_is_wrong_with_a_rule_is_one_line_with_its_place(text, position, message):
    with pytest.raises(OptionError) as caught:
        parse_rule(text)
    assert caught.value.position == position
    assert f"rule {text!r}, character {position}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("count(gat) of pumpkin >= 3", 7, "there is no zone gat; there are gate, field"),
        ('entered(gate) of pumpkin, "big gourd"', 27, 'there is no class "big gourd"; there are pumpkin'),
        ("crossed(gate) in", 9, "there is no line gate; there are road"),
    ],
)
def test_a_rule_may_only_name_what_there_is(text, position, message):
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        parse_rule(text).check(["gate", "field"], ["road"], ["pumpkin"])
    assert caught.value.position == position


def test_rules_that_name_what_there_is_pass():
    for text in ("count(gate) of pumpkin >= 3", "crossed(road)", "count > 0", "camera lost"):
        parse_rule(text).check(["gate"], ["road"], ["pumpkin"])


def test_rules_about_tracks_say_so():
    assert not any(parse_rule(text).needs_tracks for text in ("count > 1", "occupancy(a) > 0.1", "camera lost"))
    about_tracks = ("dwell(a) > 1 s", "crossed(a)", "entered(a)", "left(a)", "new object")
    assert all(parse_rule(text).needs_tracks for text in about_tracks)


@given(st.integers(0, 20), st.integers(0, 20), st.sampled_from(list(COMPARISONS)))
def test_comparisons_are_those_of_python(value, threshold, comparison):
    rule = parse_rule(f"count {comparison} {threshold}")
    assert rule.compare(value) == eval(f"{value} {comparison} {threshold}")


def test_units_of_time():
    assert [parse_rule(f"camera lost for {text}").duration for text in ("90 s", "1.5 min", "2h")] == [90, 90, 7200]
    assert math.isclose(parse_rule("occupancy(a) > 55%").threshold, 0.55)
