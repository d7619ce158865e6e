"""HDF5 files of weights are whole or not there, also when there is no room for them."""

import subprocess
import sys

import h5py
import keras
import pytest

from pumpseg_train.model.hdf5_writer import write_hdf5_file


def test_what_keras_saves_is_under_the_name_and_nothing_else(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    write_hdf5_file(tmp_path / "x.weights.h5", model.save_weights, model.variables)
    assert [path.name for path in tmp_path.iterdir()] == ["x.weights.h5"]
    with h5py.File(tmp_path / "x.weights.h5") as file:
        assert file["layers/dense/vars/0"].shape == (3, 2)


FULL = """
import resource, signal, sys
from pathlib import Path
import keras
from pumpseg.errors import SinkError
from pumpseg_train.model.hdf5_writer import write_hdf5_file
model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(200)])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    write_hdf5_file(Path(sys.argv[1]), model.save_weights, model.variables)
except SinkError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit the size of files")
def test_without_room_the_earlier_file_stays_and_hdf5_prints_nothing(tmp_path):
    path = tmp_path / "x.weights.h5"
    path.write_bytes(b"earlier")
    command = [sys.executable, "-c", FULL, str(path), "200000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == f"cannot write {path}: File too large\n"
    assert "Traceback" not in done.stderr
    assert "HDF5" not in done.stderr
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
