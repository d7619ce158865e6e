"""A run is resumed from the newest checkpoint that is whole."""

import keras
import numpy as np
import pytest

from pumpseg_train.progress import Progress
from pumpseg_train.training.checkpoint import Checkpoint, remove_old, restore
from pumpseg_train.training.run import RunError


@pytest.fixture
def make_trainer():
    def make(value):
        trainer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        trainer.optimizer.build(trainer.trainable_variables)
        fill(trainer, value)
        return trainer

    return make


def fill(trainer, value):
    for variable in [*trainer.trainable_variables, *trainer.optimizer.variables]:
        variable.assign(np.full(variable.shape, value))


def values(trainer):
    variables = [*trainer.trainable_variables, *trainer.optimizer.variables]
    return {float(value) for variable in variables for value in np.ravel(np.array(variable)) if value != 0.1}


@pytest.fixture
def saved(make_trainer, tmp_path):
    """A folder after four epochs, in which all variables were 1, 2, 3, 4."""
    trainer = make_trainer(0)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.set_model(trainer)
    for epoch in range(4):
        fill(trainer, epoch + 1)
        trainer.optimizer.learning_rate.assign(0.1)
        checkpoint.on_epoch_end(epoch)
    return tmp_path


class Noted(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_the_last_two_epochs_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["epoch0003.weights.h5", "epoch0004.weights.h5"]
    remove_old(saved, kept=1)
    assert [path.name for path in saved.iterdir()] == ["epoch0004.weights.h5"]


def test_weights_and_optimizer_come_back(saved, make_trainer):
    trainer, progress = make_trainer(0), Noted()
    assert restore(trainer, saved, progress) == 4
    assert values(trainer) == {4}
    assert not progress.notes


def test_without_checkpoints_a_run_begins(make_trainer, tmp_path):
    (tmp_path / ".part-7-epoch0001.weights.h5").write_bytes(b"killed while it was written")
    assert restore(make_trainer(5), tmp_path, Noted()) == 0
    assert restore(make_trainer(5), tmp_path / "nowhere", Noted()) == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "missing"])
def test_a_damaged_one_is_skipped_with_a_line(saved, make_trainer, damage):
    newest = saved / "epoch0004.weights.h5"
    if damage == "missing":  # whole, but of another model
        other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7)])
        other.save_weights(newest)
    else:
        content = newest.read_bytes()
        newest.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"x" * 5000}[damage])
    trainer, progress = make_trainer(0), Noted()
    assert restore(trainer, saved, progress) == 3
    assert values(trainer) == {3}
    (line,) = progress.notes
    assert line.startswith(f"{newest} is damaged and skipped: ")
    assert "\n" not in line


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again_unasked(saved, make_trainer):
    for path in saved.iterdir():
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"no checkpoint in .* can be read: remove that folder to train from the first"):
        restore(make_trainer(0), saved, Noted())
