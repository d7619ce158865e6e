"""A model by what users name it."""

import pytest

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.model import load_model


def test_a_run_and_its_onnx_file_have_one_input_size(tiny_run, tiny_onnx):
    assert load_model(str(tiny_run)).input_size == load_model(str(tiny_onnx)).input_size == (96, 96)


def test_tiles_need_an_onnx_file(tiny_run):
    with pytest.raises(PumpsegError, match="--tiles takes an ONNX file: pumpseg-export"):
        load_model(str(tiny_run), tiles=2)
