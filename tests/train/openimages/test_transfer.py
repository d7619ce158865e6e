"""Downloads over a bad network: retried, resumed, compared."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from pumpseg_train.cli.data import main
from pumpseg_train.openimages import transfer
from pumpseg_train.openimages.transfer import Transfer, TransferError

TRAIN = ["0a00000000000001", "0b00000000000002", "1c00000000000003", "fe00000000000005", "ff00000000000006"]
TRAIN_ZIP_0 = "/v5/train-masks/train-masks-0.zip"
TRAIN_BOXES = "/v6/oidv6-train-annotations-bbox.csv"
TRAIN_MASKS = "/v5/train-annotations-object-segmentation.csv"

pytestmark = pytest.mark.usefixtures("quick")


def test_a_server_that_drops_connections(server, command, checked, tmp_path):
    server.drops = {TRAIN_BOXES: 150, TRAIN_MASKS: 200, "/v5/class-descriptions-boxable.csv": 20}
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    size = len(server.files[TRAIN_BOXES])
    ranges = [wanted for path, wanted in server.log if path == TRAIN_BOXES]
    assert ranges == [None, *(f"bytes={start}-" for start in range(150, size, 150))]


def test_a_table_that_breaks_off_without_ranges_is_named(server, command, tmp_path, capsys):
    server.ranges, server.drops = False, {TRAIN_BOXES: 150}
    assert main(command(server, tmp_path, "--splits", "train")) == 2
    assert "150 bytes read" in capsys.readouterr().err


def test_every_second_answer_breaks_off(server, command, checked, tmp_path):
    server.flaky = ""
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_errors_that_pass_are_waited_for(server, command, checked, tmp_path):
    server.errors = {path: [503, 429] for path in (TRAIN_BOXES, TRAIN_ZIP_0, f"/images/train/{TRAIN[0]}.jpg")}
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_table_with_the_wrong_md5_is_refused(server, command, checked, tmp_path, capsys):
    server.hashes = True
    assert main(command(server, tmp_path / "good", "--splits", "train")) == 0
    checked(tmp_path / "good", "train", TRAIN, server.files)

    server.md5 = {TRAIN_BOXES: "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert main(command(server, tmp_path / "bad", "--splits", "train")) == 2
    assert "the MD5 of the download is" in capsys.readouterr().err


def test_no_server_is_one_line(server, command, tmp_path, capsys):
    line = command(server, tmp_path)
    line[line.index("--annotations-url") + 1] = "http://127.0.0.1:9"
    assert main(line) == 2
    error = capsys.readouterr().err.splitlines()
    assert "after 2 retries" in error[-1]
    assert "Traceback" not in "".join(error)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_half_way_and_resumed(server, command, checked, tmp_path, how):
    server.gate, server.open_for = threading.Event(), 3
    line = command(server, tmp_path, "--splits", "train", "--jobs", "1", "--timeout", "5")
    process = subprocess.Popen(
        [sys.executable, "-m", "pumpseg_train.cli.data", *line], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(server.asked("/images/")) <= server.open_for and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    if how == signal.SIGINT:
        time.sleep(1)  # until it has taken notice
        server.gate.set()
    _, error = process.communicate(timeout=60)
    server.gate.set()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in error
    assert not (tmp_path / "train" / "annotations.json").exists()
    there = {path.stem for path in (tmp_path / "train" / "images").glob("[!.]*")}
    assert 3 <= len(there) < len(TRAIN)

    server.gate = None
    server.log.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    assert {path[-20:-4] for path in server.asked("/images/")} == set(TRAIN) - there
    assert not server.asked("bbox.csv")


def test_a_table_goes_on_where_an_earlier_run_was_killed(server, command, checked, tmp_path):
    work = tmp_path / ".open-images"
    # The first answer breaks off after 500 bytes, then the server is gone for good.
    server.drops = {TRAIN_BOXES: 500}
    server.later_errors = {TRAIN_BOXES: 503}
    assert main(command(server, tmp_path, "--splits", "train")) == 2
    part = work / (TRAIN_BOXES.rsplit("/", 1)[1] + ".part")
    assert part.read_bytes() == server.files[TRAIN_BOXES][:500]

    server.drops, server.later_errors, server.log = {}, {}, []
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert [wanted for path, wanted in server.log if path == TRAIN_BOXES] == ["bytes=500-"]
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_table_that_changed_on_the_server_starts_over(server, command, checked, tmp_path):
    name = TRAIN_BOXES.rsplit("/", 1)[1]
    work = tmp_path / ".open-images"
    work.mkdir()
    (work / f"{name}.part").write_bytes(b"something older")
    about = {"size": 999, "md5": None, "validator": '"older"'}
    (work / f"{name}.part.json").write_text(json.dumps(about))
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_no_secret_of_a_mirror_is_shown_or_kept(server, command, tmp_path, capsys):
    """Neither by errors nor by the manifest."""
    line = command(server, tmp_path, "--splits", "train")
    place = line.index("--images-url") + 1
    secret = line[place] = line[place].replace("http://", "http://me:hunter2@").replace("/images", "/t0ken/images")
    server.files |= {f"/t0ken{path}": data for path, data in server.files.items() if TRAIN[0] not in path}
    assert main(line) == 1
    printed = capsys.readouterr()
    shown = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert f"/.../{TRAIN[0]}.jpg: the server answers 404" in printed.out
    assert f"/.../{TRAIN[0]}.jpg: the server answers 404" in shown

    place = line.index("--annotations-url") + 1
    line[place] = "http://me:hunter2@127.0.0.1:9/t0ken"
    assert main([*line[:-1], "validation"]) == 2
    failed = capsys.readouterr().err
    assert "http://127.0.0.1:9/.../" in failed
    for word in ("hunter2", "t0ken"):
        assert word in secret
        assert not [text for text in (printed.out, printed.err, shown, failed) if word in text]


def test_a_file_without_end_is_not_kept_in_memory(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_FETCHED", 1000)
    server.files["/long"] = bytes(1_000_000)
    with pytest.raises(TransferError, match="the server sends more than"):
        Transfer().fetch(f"{server.url}/long")
