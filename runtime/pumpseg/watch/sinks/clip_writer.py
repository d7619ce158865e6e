"""MP4 files out of encoded packets: H.264 is copied, anything else is decoded and encoded as H.264."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from pumpseg.atomic_file import PartialFile
from pumpseg.errors import SinkError
from pumpseg.video.sources.container import import_av
from pumpseg.video.sources.packet_ring import EncodedPacket

_TIME_BASE = Fraction(1, 90_000)
_START_CODE = b"\x00\x00\x00\x01"
# A camera that sets its clock, which then jumps, or a stream without times: the times of arrival count.
_MAX_JUMP = 2.0
_ENCODING = {"preset": "superfast", "crf": "23", "bf": "0"}


class ClipWriter:
    """Writes packets of one connection, from a key frame on, into an MP4 file that appears when complete.

    While it is written it consists of fragments: those of a killed process can be played, see `PartialFile`.
    frames: written so far. Raises SinkError if the file cannot be written.
    """

    def __init__(self, target: Path, first: EncodedPacket) -> None:
        self._av = import_av()
        self.frames = 0
        self._format = first.format
        self._last: tuple[int, float] | None = None  # dts as written, and when the packet arrived
        self._shift = 0
        self._file = PartialFile(target, live=True)
        try:
            with self._writing():
                # Fragments that are joined at the end: players seek in them and know how long they are.
                flags = "+hybrid_fragmented+empty_moov+default_base_moof"
                options = {"movflags": flags, "frag_duration": "1000000", "flush_packets": "1"}
                self._container = self._av.open(f"file:{self._file.path}", "w", format="mp4", options=options)
                if self._format.codec == "h264":
                    self._begin_copy(first)
                else:
                    self._begin_encoding()
        except SinkError:
            self._file.discard()
            raise

    def _begin_copy(self, first: EncodedPacket) -> None:
        self._length_bytes = length_bytes(self._format.extradata)
        start = parameter_sets(self._format.extradata) + annex_b(first.data, self._length_bytes)
        # libav finds the parameter sets in the stream itself too, where the camera's description lacks them.
        with self._av.open(io.BytesIO(start), format="h264") as probe:
            self._stream = self._container.add_stream_from_template(probe.streams.video[0])
        self._stream.time_base = _TIME_BASE
        self._decoder: Any = None

    def _begin_encoding(self) -> None:
        self._decoder = self._av.CodecContext.create(self._format.codec, "r")
        if self._format.extradata:
            self._decoder.extradata = self._format.extradata
        rate = self._format.rate if 0 < self._format.rate <= 120 else Fraction(30)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_ENCODING)
        width, height = self._format.size
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TIME_BASE
        self._stream.codec_context.thread_count = self._decoder.thread_count = 1  # the other cores infer

    def write(self, source: EncodedPacket) -> None:
        """Write the next packet. Raises SinkError."""
        pts, dts = self._times(source)
        with self._writing():
            if self._decoder is None:
                packet = self._av.Packet(annex_b(source.data, self._length_bytes))
                packet.pts, packet.dts, packet.time_base = pts, dts, _TIME_BASE
                packet.is_keyframe = source.is_keyframe
                packet.stream = self._stream
                self._container.mux(packet)
                self.frames += 1
            else:
                packet = self._av.Packet(source.data)
                packet.pts, packet.dts, packet.time_base = pts, dts, _TIME_BASE
                for frame in self._decoded(packet):
                    self._container.mux(self._stream.encode(frame))
                    self.frames += 1

    def _decoded(self, packet: Any) -> Iterator[Any]:
        try:
            frames = self._decoder.decode(packet)
        except self._av.FFmpegError:
            return  # one that was damaged on its way
        for frame in frames:
            scaled = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
            scaled.pts, scaled.time_base = frame.pts, _TIME_BASE
            scaled.pict_type = 0
            yield scaled

    def _times(self, source: EncodedPacket) -> tuple[int, int]:
        """pts and dts of a packet in the file, where dts begins at 0 and always grows."""
        unit = source.format.time_base / _TIME_BASE
        dts = source.pts if source.dts is None else source.dts
        arrived = round(source.arrived / _TIME_BASE)
        dts = arrived if dts is None else round(dts * unit)
        pts = dts if source.pts is None else max(dts, round(source.pts * unit))
        if self._last is None:
            self._shift = -dts
        else:
            step, waited = dts + self._shift - self._last[0], source.arrived - self._last[1]
            if step <= 0 or abs(step * float(_TIME_BASE) - waited) > _MAX_JUMP:
                self._shift += max(1, round(waited / _TIME_BASE)) - step
        self._last = dts + self._shift, source.arrived
        return pts + self._shift, dts + self._shift

    def complete(self) -> None:
        """Finish the file and give it its name. Raises SinkError."""
        with self._writing():
            if self._decoder is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
        self._file.complete()

    def recover(self) -> Path | None:
        """Keep what there is of a file that cannot be completed; returns where, None if there is nothing."""
        with contextlib.suppress(SinkError), self._writing():
            self._container.close()
        return self._file.recover()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a failed write into SinkError."""
        try:
            yield
        except (self._av.FFmpegError, OSError, ValueError) as error:
            detail = getattr(error, "strerror", None) or error
            raise SinkError(f"cannot write {self._file.target}: {detail}") from None


def length_bytes(extradata: bytes) -> int:
    """Bytes of the length before each NAL unit (ISO/IEC 14496-15, 5.3.3.1); 0 for units after start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0


def parameter_sets(extradata: bytes) -> bytes:
    """SPS and PPS of an H.264 stream after start codes, whichever way its container has them."""
    if not length_bytes(extradata):
        return extradata
    units, place = [], 5
    for mask in (0x1F, 0xFF):
        count = extradata[place] & mask if place < len(extradata) else 0
        place += 1
        for _ in range(count):
            size = int.from_bytes(extradata[place : place + 2])
            units.append(_START_CODE + extradata[place + 2 : place + 2 + size])
            place += 2 + size
    return b"".join(units)


def annex_b(data: bytes, length_size: int) -> bytes:
    """NAL units after start codes; length_size: see `length_bytes`."""
    if not length_size:
        return data
    units, place = [], 0
    while place + length_size <= len(data):
        size = int.from_bytes(data[place : place + length_size])
        place += length_size
        units.append(_START_CODE + data[place : place + size])
        place += size
    return b"".join(units)
