"""Batches: padding, mini masks, and that each depends on the seed and its number only."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from pumpseg.errors import DatasetError, PumpsegError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples import batches as batch_module
from pumpseg_train.samples.augment import Recipe, gather
from pumpseg_train.samples.batches import MAX_INSTANCES, MINI_MASK_SIZE, BatchSampler, collate
from pumpseg_train.samples.loader import Batches
from pumpseg_train.samples.scene import CROWD, Scene


@pytest.fixture(scope="module")
def make_batches(fruit):
    material = gather(read_dataset(fruit, "train"))

    def make(seed=1, steps=3, recipe=None, processes=0):
        drawing = BatchSampler(material, recipe or Recipe(), size=96, fill=127, batch_size=2, seed=seed)
        return Batches(drawing, steps=steps, processes=processes)

    return make


def content(batch):
    return {name: array.tobytes() for name, array in batch[0].items()}


def test_a_batch_follows_from_seed_epoch_and_step_alone(make_batches):
    batches = make_batches()
    assert len(batches) == 3
    in_order = [content(batches[step]) for step in range(3)]
    again = make_batches()
    assert [content(again[step]) for step in (2, 0, 1)] == [in_order[2], in_order[0], in_order[1]]
    assert len({batch["image"] for batch in in_order}) == 3
    assert content(make_batches(seed=2)[0]) != in_order[0]


def test_epochs_go_on_where_the_last_one_ended(make_batches):
    long, short = make_batches(steps=6), make_batches(steps=3)
    short.epoch = 1
    assert content(short[2]) == content(long[5])
    assert content(short[0]) != content(make_batches(steps=3)[0])


def test_processes_draw_the_same_and_end_with_the_batches(make_batches):
    threads = make_batches()
    with make_batches(processes=2) as batches:
        assert [content(batches[step]) for step in range(3)] == [content(threads[step]) for step in range(3)]
        drawing = multiprocessing.active_children()
        assert len(drawing) == 2
        # Ctrl-C reaches them too, but is for the training.
        os.kill(drawing[0].pid, signal.SIGINT)
        batches.epoch = 1
        assert batches[0]
    assert not [process for process in drawing if process.is_alive()]


def test_a_process_that_is_killed_is_told(make_batches):
    with make_batches(processes=1, steps=50) as batches:
        assert batches[0]
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PumpsegError, match="give fewer --workers"):
            for step in range(1, 50):
                batches[step]


KILLED = """
import multiprocessing, os, sys
from pathlib import Path
from pumpseg_train.samples.augment import Recipe, gather
from pumpseg_train.samples.batches import BatchSampler
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples.loader import Batches

if __name__ == "__main__":
    drawing = BatchSampler(gather(read_dataset(Path(sys.argv[1]), "train")), Recipe(), 96, 127, batch_size=2, seed=1)
    Batches(drawing, steps=3, processes=1)[0]
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_training_that_is_killed_leaves_no_process_behind(fruit, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script, fruit], capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    until = time.monotonic() + 20
    while runs(pid):
        assert time.monotonic() < until
        time.sleep(0.1)


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_batches_are_what_the_trainer_takes(make_batches):
    (batch,) = make_batches()[0]
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "image": ((2, 96, 96, 3), "uint8"),
        "boxes": ((2, MAX_INSTANCES, 4), "float32"),
        "class_ids": ((2, MAX_INSTANCES), "int32"),
        "mini_masks": ((2, MAX_INSTANCES, MINI_MASK_SIZE, MINI_MASK_SIZE), "uint8"),
    }


def test_orange_stays_orange_in_a_batch(make_batches):
    colours = []
    for step in range(8):
        (batch,) = make_batches(steps=8)[step]
        for image, box, class_id in zip(batch["image"], batch["boxes"][:, 0], batch["class_ids"][:, 0], strict=True):
            if class_id > 0:
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                colours.append(image[y, x])
    red, green, blue = np.mean(colours, axis=0)
    assert len(colours) > 5
    assert red > green > blue


def scene_of(*rectangles, side=96):
    """(class_id, x, y, width, height) of each instance."""
    masks = []
    for _, x, y, width, height in rectangles:
        mask = np.zeros((side, side), np.uint8)
        mask[y : y + height, x : x + width] = 255
        masks.append(mask)
    areas = [float(width * height) for *_, width, height in rectangles]
    return Scene(np.zeros((side, side, 3), np.uint8), [row[0] for row in rectangles], masks, areas)


def test_collate_pads_and_puts_the_largest_first():
    batch = collate([scene_of((1, 5, 6, 10, 12), (2, 20, 30, 40, 20)), scene_of()])
    assert batch["class_ids"][0, :3].tolist() == [2, 1, 0]
    assert batch["boxes"][0, :3].tolist() == [[20, 30, 60, 50], [5, 6, 15, 18], [0, 0, 0, 0]]
    assert not batch["class_ids"][1].any()
    assert not batch["mini_masks"][1].any()
    assert (batch["mini_masks"][0, :2] == 255).all(), "a rectangle fills its own box"
    assert not batch["mini_masks"][0, 2:].any()


def test_mini_masks_are_stretched_over_the_box():
    scene = scene_of((1, 10, 20, 40, 30))
    scene.masks[0][20:50, 30:50] = 0
    scene.masks[0][20:22, 30:50] = 255  # so that the box stays what it was
    mini = collate([scene])["mini_masks"][0, 0]
    assert collate([scene])["boxes"][0, 0].tolist() == [10, 20, 50, 50]
    assert (mini[:, :28] == 255).all()
    assert (mini[8:, 29:] == 0).all()


def test_crowd_regions_have_a_box_but_no_mask():
    scene = scene_of((CROWD, 10, 20, 40, 30))
    batch = collate([scene])
    assert batch["class_ids"][0, 0] == -1
    assert batch["boxes"][0, 0].tolist() == [10, 20, 50, 50]
    assert not batch["mini_masks"].any()


def test_the_smallest_are_left_out_where_too_many_are():
    rectangles = [(1, 7 * (n % 13), 8 * (n // 13), 7, 8 if n else 7) for n in range(MAX_INSTANCES + 1)]
    batch = collate([scene_of(*rectangles)])
    assert (batch["class_ids"][0] == 1).all()
    assert [0, 0, 7, 7] not in batch["boxes"][0].tolist()


def test_waiting_counts_what_was_not_ready(make_batches, monkeypatch):
    batches = make_batches(steps=3)
    draw = batch_module.draw_sample

    def slowly(*arguments):
        time.sleep(0.1)
        return draw(*arguments)

    monkeypatch.setattr(batch_module, "draw_sample", slowly)
    batches[0]
    assert batches.waited > 0.15, "two samples at 0.1 s each"
    time.sleep(1)
    before = batches.waited
    batches[1]
    assert batches.waited < before + 0.05, "drawn ahead"


def test_an_error_while_drawing_ahead_reaches_who_asks(make_batches, monkeypatch):
    def fail(*_):
        raise DatasetError("a photo is damaged")

    monkeypatch.setattr(batch_module, "draw_sample", fail)
    with pytest.raises(DatasetError, match="a photo is damaged"):
        make_batches()[0]
