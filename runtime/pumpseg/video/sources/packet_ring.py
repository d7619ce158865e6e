"""The last seconds of a live source as it sends them: encoded, so that they cost little memory and no time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pumpseg.checks import check_count

MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class StreamFormat:
    """What a decoder or a muxer has to know of a stream; each connection has its own.

    codec: libav's name of it. extradata: parameter sets, as the stream's container has them. size: (width, height).
    time_base: seconds of one unit of pts and dts.
    """

    codec: str
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    extradata: bytes = b""


@dataclass(frozen=True, eq=False)
class EncodedPacket:
    """One packet of a stream. number: counts up by one. arrived: on the clock of `time.perf_counter`."""

    number: int
    format: StreamFormat
    data: bytes
    pts: int | None
    dts: int | None
    is_keyframe: bool
    arrived: float


class PacketRing:
    """Keeps the packets of the last seconds, from a key frame on; one thread adds, any number read.

    seconds: to keep; it keeps more where key frames are rarer. max_bytes: whole groups of pictures are dropped, oldest
    first, beyond it. Raises OptionError for a limit below 1.
    """

    def __init__(self, seconds: float, *, max_bytes: int = MAX_BYTES) -> None:
        check_count("max_bytes", max_bytes)
        self._seconds, self._max_bytes = seconds, max_bytes
        self._packets: deque[EncodedPacket] = deque()
        self._keyframes: deque[EncodedPacket] = deque()
        self._size = 0
        self._number = 0
        self._format: StreamFormat | None = None
        self._changed = threading.Condition()

    @property
    def size(self) -> int:
        """Bytes of all packets together."""
        return self._size

    @property
    def seconds(self) -> float:
        """Between the arrival of the oldest and the newest packet."""
        with self._changed:
            return self._packets[-1].arrived - self._packets[0].arrived if self._packets else 0.0

    def begin(self, stream_format: StreamFormat) -> None:
        """Packets from here on are of another connection."""
        with self._changed:
            self._format = stream_format

    def add(self, data: bytes, pts: int | None, dts: int | None, *, is_keyframe: bool, arrived: float) -> None:
        """Keep a packet of the connection that was begun last."""
        with self._changed:
            assert self._format is not None
            packet = EncodedPacket(self._number, self._format, data, pts, dts, is_keyframe, arrived)
            self._number += 1
            self._packets.append(packet)
            self._size += len(data)
            if is_keyframe:
                self._keyframes.append(packet)
            self._trim()
            self._changed.notify_all()

    def _trim(self) -> None:
        oldest_needed = self._packets[-1].arrived - self._seconds
        # The second key frame is early enough: what is before it is not needed.
        while len(self._keyframes) > 1 and (
            self._keyframes[1].arrived <= oldest_needed or self._size > self._max_bytes
        ):
            self._drop_until(self._keyframes[1].number)
        if self._size > self._max_bytes:
            self._drop_until(self._number)

    def _drop_until(self, number: int) -> None:
        while self._packets and self._packets[0].number < number:
            self._size -= len(self._packets.popleft().data)
        while self._keyframes and self._keyframes[0].number < number:
            self._keyframes.popleft()

    def start(self, at: float, moment: float) -> int:
        """Number of the packet to begin with, so that a decoder has all from `at` to `moment`, as far as possible.

        at, moment: on the clock of `time.perf_counter`. It is the last key frame before `at`, or else the first one, of
        the connection that was open at `moment`; the next packet to come where there is none.
        """
        with self._changed:
            before = [packet for packet in self._packets if packet.arrived <= moment]
            wanted = before[-1].format if before else self._format
            keyframes = [packet for packet in self._keyframes if packet.format is wanted]
            early = [packet for packet in keyframes if packet.arrived <= at]
            chosen = early[-1] if early else keyframes[0] if keyframes else None
            return self._number if chosen is None else chosen.number

    def read(self, number: int, timeout: float) -> Sequence[EncodedPacket]:
        """The packets from a number on; waits for one at most `timeout` seconds.

        Those that are dropped already are missing: compare the numbers.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number > number, timeout)
            return [packet for packet in self._packets if packet.number >= number]


def format_of(stream: Any) -> StreamFormat:
    """The format of an open PyAV stream."""
    codec = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(30)
    return StreamFormat(codec.name, (codec.width, codec.height), rate, stream.time_base, bytes(codec.extradata or b""))
