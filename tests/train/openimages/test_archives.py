"""Masks out of zip archives: by ranges, as a whole, and what is damaged."""

import pytest

from pumpseg_train.cli.data import main
from pumpseg_train.openimages import archives

TRAIN = ["0a00000000000001", "0b00000000000002", "1c00000000000003", "fe00000000000005", "ff00000000000006"]
TRAIN_ZIP_0 = "/v5/train-masks/train-masks-0.zip"

pytestmark = pytest.mark.usefixtures("quick")


def test_a_truncated_archive_is_named_and_its_images_left_out(server, command, checked, tmp_path, capsys):
    whole = server.files[TRAIN_ZIP_0]
    server.files[TRAIN_ZIP_0] = whole[: len(whole) // 2]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[2:], server.files)
    assert set(manifest["failures"]) == set(TRAIN[:2])
    assert "train-masks-0.zip is cut short or damaged" in manifest["failures"][TRAIN[0]]
    assert "train-masks-0.zip is cut short or damaged" in capsys.readouterr().out

    server.files[TRAIN_ZIP_0] = whole
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_damaged_member_costs_its_own_image_only(server, command, checked, tmp_path):
    name = next(name for name in server.members(TRAIN_ZIP_0) if name.startswith(TRAIN[1]))
    content = bytearray(server.files[TRAIN_ZIP_0])
    place = content.index(name.encode()) + len(name) + 20
    content[place] ^= 0xFF
    server.files[TRAIN_ZIP_0] = bytes(content)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [i for i in TRAIN if i != TRAIN[1]], server.files)
    assert name in manifest["failures"][TRAIN[1]]


def test_a_mask_that_the_archive_lacks_is_named(server, command, checked, tmp_path):
    members = server.members(TRAIN_ZIP_0)
    name = next(name for name in members if name.startswith(TRAIN[0]))
    del members[name]
    server.pack(TRAIN_ZIP_0, members)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[1:], server.files)
    assert manifest["failures"][TRAIN[0]] == f"train-masks-0.zip has no {name}"


def test_an_archive_that_is_gone_is_named(server, command, checked, tmp_path):
    del server.files["/v5/train-masks/train-masks-1.zip"]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [i for i in TRAIN if i[0] != "1"], server.files)
    assert "train-masks-1.zip: the server answers 404" in manifest["failures"][TRAIN[2]]


def test_without_ranges_whole_archives_come(server, command, checked, tmp_path, capsys):
    server.ranges = False
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    assert "train-masks-0.zip is downloaded as a whole: the server sends no ranges" in capsys.readouterr().err
    assert not list((tmp_path / ".open-images").rglob("*.zip"))


def test_an_archive_most_of_which_is_needed_comes_as_a_whole(server, command, checked, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    error = capsys.readouterr().err
    assert "train-masks-0.zip is downloaded as a whole: 3 of its 4 members are needed" in error
    assert "train-masks-1.zip is downloaded" not in error


def test_a_photo_and_an_archive_that_always_break_off_are_named(server, command, checked, tmp_path):
    server.drops = {f"/images/train/{TRAIN[3]}.jpg": 300, TRAIN_ZIP_0: 100}
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [TRAIN[2], TRAIN[4]], server.files)
    assert set(manifest["failures"]) == {TRAIN[0], TRAIN[1], TRAIN[3]}
    assert "after 2 retries" in manifest["failures"][TRAIN[3]]
    server.drops.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_member_that_would_fill_the_memory_is_not_read(server, command, checked, tmp_path, monkeypatch, ranges):
    monkeypatch.setattr(archives, "MAX_MASK_BYTES", 100_000)
    server.ranges = ranges
    members = server.members(TRAIN_ZIP_0)
    name = next(name for name in members if name.startswith(TRAIN[0]))
    server.pack(TRAIN_ZIP_0, members | {name: bytes(10_000_000)})
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[1:], server.files)
    assert manifest["failures"][TRAIN[0]] == f"train-masks-0.zip: {name} is larger than 0 MiB"


@pytest.mark.parametrize(("place", "value"), [(24, 100), (8, 1), (10, 99)], ids=["size", "encrypted", "method"])
def test_a_member_whose_header_lies_costs_its_own_image_only(server, command, checked, tmp_path, place, value):
    """Fields of the central directory (APPNOTE.TXT, 4.3.12)."""
    name = next(name for name in server.members(TRAIN_ZIP_0) if name.startswith(TRAIN[1]))
    content = bytearray(server.files[TRAIN_ZIP_0])
    content[content.rindex(name.encode()) - 46 + place] = value
    server.files[TRAIN_ZIP_0] = bytes(content)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [i for i in TRAIN if i != TRAIN[1]], server.files)
    assert f"train-masks-0.zip: {name} is damaged" in manifest["failures"][TRAIN[1]]


def test_members_with_paths_stay_in_the_folder(server, command, checked, tmp_path):
    members = server.members(TRAIN_ZIP_0)
    server.pack(TRAIN_ZIP_0, {f"../../{name}": content for name, content in members.items()})
    out = tmp_path / "deep" / "data"
    assert main(command(server, out, "--splits", "train")) == 0
    checked(out, "train", TRAIN, server.files)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
