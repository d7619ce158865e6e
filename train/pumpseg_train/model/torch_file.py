"""Reads the tensors of a PyTorch checkpoint without PyTorch and without running its pickle."""

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Returns name -> array of a state dict saved in PyTorch's legacy (pre-1.6) format.

    Only the few globals that such a file needs can be named in the pickle; anything else raises
    `pickle.UnpicklingError`, so a hostile file cannot run code. Layout: `torch/serialization.py`,
    `_legacy_load`: magic, protocol, system info, the state dict, storage keys, then the storages.
    """
    with path.open("rb") as file:
        if _Unpickler(file, {}).load() != _MAGIC:
            raise ValueError(f"{path} is not a PyTorch file in the legacy format")
        _Unpickler(file, {}).load()
        _Unpickler(file, {}).load()
        storages: dict[str, np.ndarray] = {}
        state = _Unpickler(file, storages).load()
        for key in _Unpickler(file, {}).load():
            count, storage = int.from_bytes(file.read(8), "little"), storages[key]
            if count != storage.size:
                raise ValueError(f"{path}: storage {key} has {count} elements, {storage.size} expected")
            content = file.read(storage.nbytes)
            if len(content) != storage.nbytes:
                raise ValueError(f"{path} ends in the middle of storage {key}")
            storage[:] = np.frombuffer(content, storage.dtype)
    return dict(state)


class _Unpickler(pickle.Unpickler):
    """Knows ordered dicts, tensors and storages; storages are filled after the pickle is read."""

    def __init__(self, file: BinaryIO, storages: dict[str, np.ndarray]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of tensors")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _location, count, _view = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent object {kind!r}")
        return self._storages.setdefault(key, np.empty(count, dtype))


def _tensor(storage: np.ndarray, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if min(offset, *shape, *stride, last) < 0 or last >= max(storage.size, 1):
        raise pickle.UnpicklingError(f"a tensor {shape} reaches out of its storage of {storage.size} elements")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)
