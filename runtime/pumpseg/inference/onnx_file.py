"""Reads the structure of an ONNX file before any runtime does, and refuses what model files never have.

A model file is data from someone else. ONNX Runtime and OpenVINO follow references in it to other files (and OpenVINO
to any address of the process), load plug-ins for other operators, and trust sizes that it announces. The field
numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the encoding that of Protocol
Buffers (https://protobuf.dev/programming-guides/encoding). Weights are skipped, not read.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from pumpseg.errors import ModelFileError

MAX_METADATA_BYTES = 1 << 20
_MAX_BYTES = (1 << 31) - 1  # Protocol Buffers' own limit
_MAX_FIELDS = 1_000_000  # shipped models have some ten thousand
_MAX_RANK = 32
_DOMAINS = (b"", b"ai.onnx")
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

# ModelProto
_GRAPH, _METADATA, _TRAINING, _FUNCTION = 7, 14, 20, 25
_KEY, _VALUE = 1, 2  # StringStringEntryProto
# GraphProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
# NodeProto
_ATTRIBUTE, _DOMAIN = 5, 7
# AttributeProto
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23
# TensorProto
_DIMS, _DATA_TYPE, _RAW, _EXTERNAL, _LOCATION = 1, 2, 9, 13, 14
_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S = 4, 5, 6, 7, 10, 11
# TensorProto.DataType: bytes of an element, and the field that has them where raw_data does not.
_TYPES = {
    1: (4, _FLOATS),
    2: (1, _INT32S),  # uint8
    3: (1, _INT32S),  # int8
    4: (2, _INT32S),  # uint16
    5: (2, _INT32S),  # int16
    6: (4, _INT32S),
    7: (8, _INT64S),
    9: (1, _INT32S),  # bool
    10: (2, _INT32S),  # float16
    11: (8, _DOUBLES),
    12: (4, _UINT64S),  # uint32
    13: (8, _UINT64S),
    16: (2, _INT32S),  # bfloat16
}


def check_onnx_file(path: Path) -> None:
    """Raise ModelFileError unless a file is ONNX as model files are, complete in itself.

    Refused are data in other files, subgraphs and functions, operators of other domains, sparse and text tensors,
    tensors of another size than they announce, metadata of more than MAX_METADATA_BYTES or that are not UTF-8, and
    files that are cut short.
    """
    try:
        with path.open("rb") as file, _mapped(file.fileno()) as data:
            _check_model(_Reader(data))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None
    except IndexError:
        raise ModelFileError(f"{path} is not an ONNX file that runs here: it is damaged or cut short") from None
    except ValueError as error:
        raise ModelFileError(f"{path} is not an ONNX file that runs here: {error}") from None


@contextlib.contextmanager
def _mapped(file: int) -> Iterator[mmap.mmap]:
    with contextlib.closing(mmap.mmap(file, 0, access=mmap.ACCESS_READ)) as data:
        if len(data) > _MAX_BYTES:
            raise ValueError("it has more than 2 GiB")
        yield data


class _Reader:
    """The fields of messages in encoded bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self._left = _MAX_FIELDS

    def fields(self, first: int, stop: int, wanted: frozenset[int]) -> list[tuple[int, int, int]]:
        """Those of a message that are `wanted`: number, and where the bytes begin and end; for a value, it and -1.

        Raises ValueError or IndexError for damage.
        """
        data, at, count, found = self.data, first, 0, []
        while at < stop:
            count += 1
            if count > self._left:
                raise ValueError("it has too many parts")
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = self._varint(at - 1, 5)
            number, kind = tag >> 3, tag & 7
            if kind == _BYTES:
                size = data[at]
                at += 1
                if size > 127:
                    size, at = self._varint(at - 1, 5)
                begin, at = at, at + size
                end = at
            elif kind == _VARINT:
                begin, end = data[at], -1
                at += 1
                if begin > 127:
                    begin, at = self._varint(at - 1, 10)
            elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
                begin, at = at, at + (4 if kind == _FOUR_BYTES else 8)
                end = at
            else:
                raise ValueError("it is damaged or not ONNX")
            if number in wanted:
                found.append((number, begin, end))
        if at != stop:
            raise ValueError("it is damaged or cut short")
        self._left -= count
        return found

    def _varint(self, at: int, most: int) -> tuple[int, int]:
        data, value = self.data, 0
        for place in range(most):
            byte = data[at + place]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value, at + place + 1
        raise ValueError("it is damaged or not ONNX")


_IN_MODEL = frozenset((_GRAPH, _METADATA, _TRAINING, _FUNCTION))
_IN_ENTRY = frozenset((_KEY, _VALUE))
_IN_GRAPH = frozenset((_NODE, _INITIALIZER, _SPARSE_INITIALIZER))
_IN_NODE = frozenset((_ATTRIBUTE, _DOMAIN))
_IN_ATTRIBUTE = frozenset((_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE, _SPARSES))
_TYPED = frozenset((_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S))
_IN_TENSOR = _TYPED | {_DIMS, _DATA_TYPE, _RAW, _EXTERNAL, _LOCATION}


def _check_model(reader: _Reader) -> None:
    graphs, keys = 0, []
    for number, first, stop in reader.fields(0, len(reader.data), _IN_MODEL):
        if number == _GRAPH:
            graphs += 1
            _check_graph(reader, first, stop)
        elif number == _METADATA:
            keys.append(_check_entry(reader, first, stop))
        else:
            raise ValueError("it has functions or training steps, which model files do not have")
    # Readers of Protocol Buffers would merge two graphs.
    if graphs != 1:
        raise ValueError(f"it has {graphs or 'no'} graph{'s' * (graphs > 1)}")
    if len(set(keys)) < len(keys):
        raise ValueError("two of its metadata have the same key")


def _check_entry(reader: _Reader, first: int, stop: int) -> bytes:
    if stop - first > MAX_METADATA_BYTES:
        raise ValueError(f"its metadata have more than {MAX_METADATA_BYTES >> 20} MiB")
    key = b""
    for number, begin, end in reader.fields(first, stop, _IN_ENTRY):
        text = reader.data[begin:end]
        try:
            text.decode()
        except UnicodeDecodeError:
            raise ValueError("its metadata are not UTF-8") from None
        key = text if number == _KEY else key
    return key


def _check_graph(reader: _Reader, first: int, stop: int) -> None:
    for number, begin, end in reader.fields(first, stop, _IN_GRAPH):
        if number == _NODE:
            _check_node(reader, begin, end)
        elif number == _INITIALIZER:
            _check_tensor(reader, begin, end)
        else:
            raise ValueError("it has sparse tensors, which model files do not have")


def _check_node(reader: _Reader, first: int, stop: int) -> None:
    for number, begin, end in reader.fields(first, stop, _IN_NODE):
        if number == _ATTRIBUTE:
            _check_attribute(reader, begin, end)
        elif (domain := reader.data[begin:end]) not in _DOMAINS:
            raise ValueError(f"it has an operator of {domain[:50].decode(errors='replace')!r}, not of ONNX itself")


def _check_attribute(reader: _Reader, first: int, stop: int) -> None:
    single = 0
    for number, begin, end in reader.fields(first, stop, _IN_ATTRIBUTE):
        if number in (_SUBGRAPH, _SUBGRAPHS):
            raise ValueError("it has loops or branches, which model files do not have")
        if number in (_SPARSE, _SPARSES):
            raise ValueError("it has sparse tensors, which model files do not have")
        single += number == _TENSOR
        _check_tensor(reader, begin, end)
    if single > 1:
        raise ValueError("it is damaged: an attribute has two values")


def _check_tensor(reader: _Reader, first: int, stop: int) -> None:
    dims: list[int] = []
    counts: dict[int, int] = {}
    kind, raw = 0, None
    for number, begin, end in reader.fields(first, stop, _IN_TENSOR):
        if number == _EXTERNAL or (number == _LOCATION and begin):
            raise ValueError("it keeps data outside of itself, which model files do not do")
        if number == _DIMS:
            dims += [begin] if end < 0 else _varints(reader, begin, end)
            if len(dims) > _MAX_RANK:
                raise ValueError("it is damaged: a tensor has too many sides")
        elif number == _DATA_TYPE:
            kind = begin
        elif number == _RAW:
            raw = end - begin
        elif number in _TYPED:
            if end < 0 or number == _STRINGS:
                raise ValueError("it has tensors of a kind that model files do not have")
            counts[number] = counts.get(number, 0) + _count(reader, number, begin, end)
    if kind not in _TYPES:
        raise ValueError(f"it has tensors of type {kind}, which model files do not have")
    size, field = _TYPES[kind]
    # A side below 0 is a huge number here.
    wanted = prod(dims)
    announced = (raw, wanted * size) if raw is not None else (counts.get(field, 0), wanted)
    if announced[0] != announced[1] or (raw is not None and counts):
        raise ValueError("it is damaged: a tensor has more or less data than it announces")


def _varints(reader: _Reader, first: int, stop: int) -> list[int]:
    values: list[int] = []
    while first < stop and len(values) <= _MAX_RANK:
        value, first = reader._varint(first, 10)
        values.append(value)
    return values


def _count(reader: _Reader, number: int, first: int, stop: int) -> int:
    """Elements of a packed field."""
    if number in (_FLOATS, _DOUBLES):
        return (stop - first) // (4 if number == _FLOATS else 8)
    # The last byte of each has no continuation bit.
    return int(np.count_nonzero(np.frombuffer(reader.data[first:stop], np.uint8) < 128))
