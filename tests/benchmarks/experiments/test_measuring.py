"""What the timing experiments share."""

import pytest


@pytest.fixture(scope="module")
def measuring(load_script):
    return load_script("measuring")


def test_actions_take_turns_and_the_first_round_does_not_count(measuring):
    done = []
    times = measuring.in_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3)
    assert done == ["a", "b"] * 4
    assert {key: len(taken) for key, taken in times.items()} == {"a": 3, "b": 3}
    assert all(milliseconds >= 0 for taken in times.values() for milliseconds in taken)


def test_a_table_is_markdown(measuring, capsys):
    measuring.print_table(("name", "ms"), [["a", 1], ["b", "2.5"]])
    assert capsys.readouterr().out == "| name | ms |\n|---|---|\n| a | 1 |\n| b | 2.5 |\n"


def test_the_machine_is_named_before_a_measurement(measuring, capsys):
    with measuring.quiet_machine():
        assert "cores" in capsys.readouterr().out
