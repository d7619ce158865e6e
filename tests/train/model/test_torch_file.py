"""PyTorch's old files are read without PyTorch, and cannot do harm."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from pumpseg_train.model.torch_file import read_torch_file


class LegacyPickler(pickle.Pickler):
    """Writes arrays as PyTorch's old format does."""

    def __init__(self, file, torch):
        super().__init__(file, protocol=2)
        self._torch, self.storages = torch, {}

    def persistent_id(self, item):
        if isinstance(item, Storage):
            self.storages[item.key] = item.values
            return ("storage", self._torch.FloatStorage, item.key, "cpu", item.values.size, None)
        return None

    def reducer_override(self, item):
        if isinstance(item, np.ndarray):
            strides = tuple(step // item.itemsize for step in item.strides)
            storage = Storage(f"key{len(self.storages)}", item.ravel())
            return self._torch._utils._rebuild_tensor_v2, (storage, 0, item.shape, strides, False, OrderedDict())
        return NotImplemented


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


@pytest.fixture
def write_torch_file(tmp_path, monkeypatch):
    """Writes a state dict in the legacy format, without PyTorch; `shape` overrides that of the tensors."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(state, magic=0x1950A86A20F9469CFC6C):
        path, file = tmp_path / "state.pth", io.BytesIO()
        for value in (magic, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        pickler = LegacyPickler(file, torch)
        pickler.dump(state)
        pickle.dump(list(pickler.storages), file, protocol=2)
        for values in pickler.storages.values():
            file.write(struct.pack("<q", values.size) + values.astype("<f4").tobytes())
        path.write_bytes(file.getvalue())
        return path

    return write


def test_reads_a_state_dict(write_torch_file):
    state = OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.ones(4, np.float32))
    found = read_torch_file(write_torch_file(state))
    assert list(found) == ["a", "b"]
    assert np.array_equal(found["a"], state["a"])
    assert np.array_equal(found["b"], state["b"])


class Hostile:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_a_pickle_that_names_another_global_is_refused_and_not_run(write_torch_file, tmp_path):
    path = write_torch_file({"a": Hostile(tmp_path / "harm")})
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        read_torch_file(path)
    assert not (tmp_path / "harm").exists()


def test_a_hostile_header_is_refused_and_not_run(tmp_path):
    path = tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    with pytest.raises(pickle.UnpicklingError):
        read_torch_file(path)
    assert not (tmp_path / "harm").exists()


def test_another_file_is_refused(write_torch_file):
    with pytest.raises(ValueError, match="not a PyTorch file"):
        read_torch_file(write_torch_file({}, magic=7))


@pytest.mark.parametrize("missing", [1, 4, 12, 16, 20, 24, 40, 200])
def test_a_truncated_file_is_refused(write_torch_file, missing):
    path = write_torch_file({"a": np.arange(4, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        read_torch_file(path)


def test_a_tensor_larger_than_its_storage_is_refused(write_torch_file):
    small = np.arange(4, dtype=np.float32)
    reaching_out = np.lib.stride_tricks.as_strided(small, (4,), (4,))
    path = write_torch_file({"a": reaching_out})
    path.write_bytes(path.read_bytes().replace(b"K\x04\x85", b"M\xff\x7f\x85"))  # the shape (4,) -> (32767,)
    with pytest.raises(pickle.UnpicklingError, match="32767"):
        read_torch_file(path)
