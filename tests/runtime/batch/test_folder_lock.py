import os

import pytest

from pumpseg.batch.folder_lock import LOCK, locked_folder
from pumpseg.errors import SinkError


def test_one_at_a_time_and_nothing_is_left(tmp_path):
    with locked_folder(tmp_path):
        with (
            pytest.raises(SinkError, match=rf"process {os.getpid()} on .* writes into {tmp_path}: wait for it"),
            locked_folder(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on another machine", encoding="utf-8")
    with locked_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(SinkError, match=r"cannot lock .*none: No such file"), locked_folder(tmp_path / "none"):
        pass
