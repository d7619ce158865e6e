import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pumpseg_train.model import hdf5_file
from pumpseg_train.model.hdf5_file import check_hdf5_file, check_structure


@pytest.fixture
def written(tmp_path):
    """Writes an HDF5 file with ordinary weights and whatever else."""

    def write(add):
        path = tmp_path / "weights.h5"
        with h5py.File(path, "w") as file:
            file["layers/dense/vars/0"] = np.ones((4, 5), np.float32)
            add(file)
        return path

    return write


@pytest.mark.parametrize(
    "array",
    [np.float32(3), np.zeros((0, 7), np.float32), np.arange(6, dtype=np.int64), np.array([True]), np.ones(3, "<f2")],
)
def test_weights_of_every_kind_pass(written, array):
    check_structure(written(lambda file: file.create_dataset("a/b/c", data=array)))


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"shuffle": True, "fletcher32": True}])
def test_ordinary_compression_passes(written, options):
    values = np.random.default_rng(0).random((300, 300))
    check_structure(written(lambda file: file.create_dataset("packed", data=values, **options)))


def external_link(file):
    file["other"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file):
    file["other"] = h5py.SoftLink("/layers/dense")


def soft_cycle(file):
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def dangling_link(file):
    file["other"] = h5py.SoftLink("/nowhere")


def cycle(file):
    file["layers/dense/again"] = file["layers"]


def two_names(file):
    file["again"] = file["layers/dense/vars/0"]


def external_storage(file):
    file.create_dataset("outside", (16,), "u1", external=[("/etc/passwd", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((5,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (5,))
    file.create_virtual_dataset("view", layout)


def announced(file):
    file.create_dataset("huge", (1 << 25, 1 << 25), "f4", chunks=(1, 1 << 10))


def announced_at_once(file):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((1 << 50,))
    h5py.h5d.create(file.id, b"huge", h5py.h5t.NATIVE_FLOAT, space, how)


def bomb(file):
    file.create_dataset("bomb", data=np.zeros((1 << 20,), np.float32), compression="gzip", chunks=(1 << 18,))


def texts(file):
    file.create_dataset("texts", data=["a", "b"], dtype=h5py.string_dtype())


def fixed_texts(file):
    file["texts"] = np.array([b"abc"])


def lists(file):
    file.create_dataset("lists", (2,), h5py.vlen_dtype(np.float32))


def references(file):
    file.create_dataset("references", (2,), h5py.ref_dtype)


def records(file):
    file["records"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def named_type(file):
    file["type"] = np.dtype("f4")


def deep(file):
    file["/".join("x" * 60)] = 1.0


def plugin(file):
    file.create_dataset("packed", data=np.zeros(1000), compression="lzf")


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (external_link, "'other' is a link"),
        (soft_link, "'other' is a link"),
        (soft_cycle, "'a' is a link"),
        (dangling_link, "'other' is a link"),
        (cycle, "in it several times"),
        (two_names, "in it several times"),
        (external_storage, "data are in other files"),
        (virtual, "data are in other files or arrays"),
        (announced, "20 times as large as the file"),
        (announced_at_once, "20 times as large as the file"),
        (bomb, "20 times as large as the file"),
        (texts, "not of numbers"),
        (fixed_texts, "not of numbers"),
        (lists, "not of numbers"),
        (references, "not of numbers"),
        (records, "not of numbers"),
        (named_type, "neither a group nor an array"),
        (deep, "too deep"),
        (plugin, "needs a plug-in"),
    ],
)
def test_what_weights_files_do_not_have(written, add, message):
    with pytest.raises(ValueError, match=message):
        check_structure(written(add))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_what_is_no_hdf5(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(OSError, match="nable to"):
        check_structure(path)


def test_a_file_that_can_be_read_is_tried_in_another_process_once(written, monkeypatch):
    path = written(lambda file: file["layers"].attrs.update(names=[b"dense"]))
    check_hdf5_file(path)
    monkeypatch.setattr(subprocess, "run", None)
    check_hdf5_file(path)


def test_a_refused_file_says_why(written):
    with pytest.raises(ValueError, match=r"^'other' is a link, which weights files do not have$"):
        check_hdf5_file(written(external_link))


def test_a_file_that_hdf5_loops_on_ends(written, monkeypatch):
    """Names of any length are in a heap. HDF5 1.14 reads one of a wrong size for ever."""

    def heap_and_more(file):
        file.attrs["names"] = [b"a", b"b"]
        file["more"] = np.zeros(10_000)

    path = written(heap_and_more)
    content = bytearray(path.read_bytes())
    content[content.index(b"GCOL") + 9] = 0x2C
    path.write_bytes(content)
    monkeypatch.setattr(hdf5_file, "MAX_SECONDS", 2)
    with pytest.raises(ValueError, match=r"did not read it in 2 s"):
        check_hdf5_file(path)


def test_a_file_that_takes_the_process_down(written, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(ValueError, match="HDF5 cannot read it: it is damaged"):
        check_hdf5_file(written(lambda file: None))
