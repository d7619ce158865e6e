"""The table that a batch ends with."""

from __future__ import annotations

from collections.abc import Sequence

from pumpseg.batch.run import DONE, FAILED, SKIPPED, STOPPED, Outcome
from pumpseg.plural import counted

_MAX_ROWS = 40


def batch_table(outcomes: Sequence[Outcome]) -> str:
    """A row for every input, or only for those that failed if there are many, and a line of totals."""
    shown = outcomes if len(outcomes) <= _MAX_ROWS else [o for o in outcomes if o.status == FAILED][:_MAX_ROWS]
    rows = [("input", "status", "frames", "instances", "fps")]
    rows += [_row(outcome) for outcome in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), row[1].ljust(widths[1]), *(row[c].rjust(widths[c]) for c in (2, 3, 4))]
        ).rstrip()
        for row in (rows if shown else [])
    ]
    lines += [f"failed: {outcome.error}" for outcome in shown if outcome.error]
    counts = {status: sum(o.status == status for o in outcomes) for status in (DONE, SKIPPED, FAILED, STOPPED)}
    totals = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    frames, found = sum(o.frames for o in outcomes), sum(o.instances for o in outcomes)
    done = f"{counted(frames, 'frame')}, {counted(found, 'instance')}"
    return "\n".join([*lines, f"{counted(len(outcomes), 'input')}: {totals}; {done}"])


def _row(outcome: Outcome) -> tuple[str, str, str, str, str]:
    if outcome.status == FAILED or (outcome.status == STOPPED and outcome.summary is None):
        return str(outcome.path), outcome.status, "", "", ""
    fps = "" if outcome.summary is None else f"{outcome.summary.fps:.1f}"
    return str(outcome.path), outcome.status, str(outcome.frames), str(outcome.instances), fps
