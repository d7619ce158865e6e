"""A model that others take the place of while frames are segmented."""

import json
import os
import shutil
import threading
import time

import numpy as np
import onnx
import pytest

from pumpseg.errors import ModelFileError
from pumpseg.segmenter import Segmenter
from pumpseg.video.sources.frame_source import Frame
from pumpseg.watch.shared_model import SharedModel, check_successor

WHITE = np.full((64, 64, 3), 255, np.uint8)


@pytest.fixture
def shared(model_path, tmp_path):
    path = tmp_path / "model.onnx"
    shutil.copy(model_path, path)
    return SharedModel(lambda: Segmenter(path, provider="cpu", threads=1, allow_spinning=False)), path


def count(model):
    return len(model.infer(Frame(WHITE, "x", 0, 0.0))[0])


def replace_file(path, by):
    """As rsync and mv do; the time of the change is another one even where clocks are coarse."""
    shutil.copy(by, path.with_suffix(".new"))
    status = path.stat()
    os.utime(path.with_suffix(".new"), ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    path.with_suffix(".new").replace(path)


def test_a_new_file_is_taken(shared, blind_model_path):
    model, path = shared
    assert count(model) == 16
    assert not model.changed()
    replace_file(path, blind_model_path)
    assert not model.changed(), "the first look cannot tell whether it is complete"
    assert model.changed()
    assert model.reload()
    assert (count(model), model.swaps, model.problem) == (0, 1, None)
    assert not model.changed()


@pytest.mark.parametrize("damage", ["cut short", "empty", "text", "another class"])
def test_a_bad_file_is_reported_once_and_the_old_model_stays(shared, damage, caplog, metadata, make_model):
    model, path = shared
    good = path.read_bytes()
    contents = {"cut short": good[: len(good) // 2], "empty": b"", "text": b"no model"}
    bad = path.with_name("bad.onnx")
    if damage in contents:
        bad.write_bytes(contents[damage])
    else:
        bad = make_model({**metadata, "classes": ["gourd"]}, "bad.onnx")
    replace_file(path, bad)
    model.changed()
    assert model.changed()
    assert not model.reload()
    assert "is not taken, the one before stays" in caplog.text
    assert (count(model), model.swaps, model.refused) == (16, 0, 1)
    assert model.problem
    model.changed()
    assert not model.changed(), "it is not tried again and again"


def test_a_model_that_names_fewer_classes_than_it_finds_is_refused(shared, make_model, metadata, model_path):
    model, path = shared
    broken = onnx.load(model_path)
    node = next(node for node in broken.graph.node if node.output[0] == "class_ids")
    node.op_type = "Add"  # class ids of up to 15, of one class
    onnx.helper.set_model_props(broken, {"pumpseg": json.dumps(metadata)})
    model.infer(Frame(WHITE, "x", 0, 0.0))
    onnx.save(broken, path)
    assert not model.reload()
    assert count(model) == 16


def test_classes_may_be_added_but_not_taken_away(make_model, metadata):
    more = Segmenter(make_model({**metadata, "classes": ["gourd", "pumpkin"]}), provider="cpu", threads=1)
    black = np.zeros((64, 64, 3), np.uint8)
    check_successor(more, ["pumpkin"], black)
    with pytest.raises(ModelFileError, match="has no class melon, which the model in use has"):
        check_successor(more, ["pumpkin", "melon"], black)


def test_every_frame_is_segmented_by_one_model_while_models_change(shared, model_path, blind_model_path):
    model, path = shared
    counts, stop = [], threading.Event()

    def segment():
        while not stop.is_set():
            counts.append(count(model))

    threads = [threading.Thread(target=segment) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(6):
        replace_file(path, blind_model_path if number % 2 == 0 else model_path)
        assert model.reload()
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert set(counts) == {0, 16}
    assert model.swaps == 6
