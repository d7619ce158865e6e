"""Photos that are gone or damaged are named, and fetched again."""

import pytest

from pumpseg_train.cli.data import main

TRAIN = ["0a00000000000001", "0b00000000000002", "1c00000000000003", "fe00000000000005", "ff00000000000006"]

pytestmark = pytest.mark.usefixtures("quick")


def test_a_photo_that_is_gone_is_named_and_left_out(server, command, checked, tmp_path, capsys):
    kept = server.files.pop(f"/images/train/{TRAIN[1]}.jpg")
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    rest = [image_id for image_id in TRAIN if image_id != TRAIN[1]]
    manifest = checked(tmp_path, "train", rest, server.files)
    assert list(manifest["failures"]) == [TRAIN[1]]
    captured = capsys.readouterr()
    assert f"{TRAIN[1]}: {server.url}/.../{TRAIN[1]}.jpg: the server answers 404" in captured.out
    assert "missing: 1 image, re-run" in captured.out
    assert len(server.asked(TRAIN[1])) == 1  # 404 is not tried again

    server.files[f"/images/train/{TRAIN[1]}.jpg"] = kept
    server.log.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert server.asked("/images/") == [f"/images/train/{TRAIN[1]}.jpg"]
    checked(tmp_path, "train", TRAIN, server.files)


@pytest.mark.parametrize("kind", ["empty", "cut short", "no image"])
def test_a_photo_that_does_not_decode_is_named(server, command, checked, tmp_path, capsys, kind):
    path = f"/images/train/{TRAIN[0]}.jpg"
    whole = server.files[path]
    server.files[path] = {"empty": b"", "cut short": whole[: len(whole) * 2 // 3], "no image": b"<html>oops</html>"}[
        kind
    ]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    checked(tmp_path, "train", TRAIN[1:], server.files)
    assert f"{TRAIN[0]}.jpg is {'empty' if kind == 'empty' else 'damaged'}" in capsys.readouterr().out
    assert len(server.asked(path)) == 2
    assert not (tmp_path / "train" / "images" / f"{TRAIN[0]}.jpg").exists()


def test_a_photo_that_was_damaged_on_disk_is_fetched_again(server, command, checked, tmp_path, capsys):
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    cut, other = (tmp_path / "train" / "images" / f"{image_id}.jpg" for image_id in TRAIN[:2])
    cut.write_bytes(cut.read_bytes()[:400])
    other.write_bytes((tmp_path / "train" / "images" / f"{TRAIN[2]}.jpg").read_bytes())
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    error = capsys.readouterr().err
    assert f"{TRAIN[0]}.jpg is damaged" in error
    assert f"{TRAIN[1]}.jpg is not the file that the manifest lists" in error
