"""Times of packets that grow, where a recording's own clock jumps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from pumpseg.video.sources.container import film

_DISCONTINUOUS = 0x200  # AVFMT_TS_DISCONT of libavformat: transport and program streams, Ogg
_MAX_GAP = 10  # seconds, as ffmpeg's -dts_delta_threshold
_MAX_STEP_BACK = Fraction(1, 10)
_MAX_OVERLAP = 2  # seconds by which sound and picture may differ at a jump


class Clock:
    """The packets of a container on one clock.

    Recordings that were joined, cameras that set their clock and clocks that overflow (after 26.5 hours, in transport
    streams) make times jump: back, or forward by more than ten seconds. As ffmpeg does, everything after a jump is
    shifted so that it continues where the stream was, and picture and sound by the same time. The jump is found from
    the packets of both, so that two readers of a file find the same; each stream takes its shift where its own times
    jump, since packets from before the jump may come late.

    jumps: how many so far. Source: ts_discontinuity_detect in fftools/ffmpeg_demux.c of FFmpeg.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._shifts = [Fraction(0)]  # seconds, after each jump
        self._passed: dict[int, int] = {}  # jumps that a stream has behind it
        self._last: dict[int, Fraction] = {}
        self._next: dict[int, Fraction] = {}
        self._newest: Fraction | None = None

    @property
    def jumps(self) -> int:
        return len(self._shifts) - 1

    def packets(self, *wanted: Any) -> Iterator[Any]:
        """Packets of some streams in the order of the file; like `container.demux`, with empty ones at the end."""
        if self._container.format.flags & _DISCONTINUOUS:
            return self._corrected({stream.index for stream in wanted})
        return self._container.demux(*wanted)  # type: ignore[no-any-return]

    def _corrected(self, wanted: set[int]) -> Iterator[Any]:
        streams = filter(None, [film(self._container), *self._container.streams.audio])
        for packet in self._container.demux(*streams):
            self._correct(packet)
            if packet.stream_index in wanted:
                yield packet

    def _correct(self, packet: Any) -> None:
        stream, unit = packet.stream_index, packet.time_base
        shift = self._shifts[self._passed.setdefault(stream, self.jumps)]
        if packet.dts is not None:
            raw = packet.dts * unit
            expected = self._next.get(stream, self._newest)
            if expected is not None and self._jumps(stream, raw + shift, expected):
                shift = self._next_shift(stream, raw, expected)
            dts = raw + shift
            duration = packet.duration * unit if packet.duration else dts - self._last.get(stream, dts)
            self._last[stream] = dts
            self._newest = dts if self._newest is None else max(self._newest, dts)
            self._next[stream] = dts + duration
        if shift:
            units = round(shift / unit)
            packet.dts = None if packet.dts is None else packet.dts + units
            packet.pts = None if packet.pts is None else packet.pts + units

    def _jumps(self, stream: int, dts: Fraction, expected: Fraction) -> bool:
        if stream not in self._last:
            return abs(dts - expected) > _MAX_GAP
        # A stream that paused while the others went on has not jumped.
        ahead = dts - max(expected, self._newest or expected)
        return dts + _MAX_STEP_BACK < self._last[stream] or ahead > _MAX_GAP

    def _next_shift(self, stream: int, raw: Fraction, expected: Fraction) -> Fraction:
        """The shift behind a jump that another stream has passed, or a new one that continues at `expected`."""
        while self._passed[stream] < self.jumps:
            self._passed[stream] += 1
            shift = self._shifts[self._passed[stream]]
            if abs(raw + shift - expected) <= _MAX_OVERLAP:
                return shift
        self._shifts.append(expected - raw)
        self._passed[stream] = self.jumps
        return self._shifts[-1]
