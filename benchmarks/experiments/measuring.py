"""What the timing experiments share: taking turns, tables in Markdown, and a warning on a busy machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

from pumpseg_bench import machine

Key = TypeVar("Key", bound=Hashable)


def in_turns(actions: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, list[float]]:
    """Milliseconds of every action in each round; all take turns, after a round that warms up and does not count."""
    times: dict[Key, list[float]] = {key: [] for key in actions}
    for number in range(rounds + 1):
        for key, action in actions.items():
            start = perf_counter()
            action()
            if number:
                times[key].append(1000 * (perf_counter() - start))
    return times


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table in Markdown, row by row as they come."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


@contextlib.contextmanager
def quiet_machine() -> Iterator[None]:
    """Print the machine before a measurement and, after it, a warning if other processes kept it busy."""
    here = machine.describe()
    print(f"{here.processor}, {here.cores} cores, {here.system}\n")
    meter = machine.ExternalLoadMeter([])
    yield
    if (others := meter.cores()) > 0.1 * here.cores:
        print(f"\nwarning: other processes used {others:.1f} of {here.cores} cores meanwhile")
