"""How long one frame took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds that one frame took: letterboxing it, running the model, and selecting the instances.

    >>> from pumpseg import Timings
    >>> Timings(pre=0.25, session=2.0, post=0.25) + Timings(session=1.5)
    Timings(pre=0.25, session=3.5, post=0.25)
    """

    pre: float = 0.0
    session: float = 0.0
    post: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        return Timings(self.pre + other.pre, self.session + other.session, self.post + other.post)
