import json

import pytest

from pumpseg.batch.manifest import Entry, Fingerprint, Manifest, output_sizes
from pumpseg.errors import SinkError


@pytest.fixture
def done(tmp_path):
    """An input and its entry, with one output."""
    path, output = tmp_path / "a", tmp_path / "out" / "a.jsonl"
    path.write_bytes(b"content")
    output.parent.mkdir()
    output.write_text("{}\n", encoding="utf-8")
    return path, Entry(Fingerprint.of(path), {"threshold": 0.5}, {"a.jsonl": 3}, 3, 4)


def test_an_input_is_done_while_nothing_has_changed(tmp_path, done):
    path, entry = done
    manifest = Manifest(tmp_path / "out")
    assert manifest.is_done(path, {"threshold": 0.5}) is None
    manifest.add(path, entry)
    for known in (manifest, Manifest(tmp_path / "out")):
        assert known.is_done(path, {"threshold": 0.5}) == entry
        assert known.is_done(path, {"threshold": 0.6}) is None
    (tmp_path / "out" / "a.jsonl").write_text("[]", encoding="utf-8")
    assert manifest.is_done(path, {"threshold": 0.5}) is None


def test_an_input_of_the_same_size_and_another_content_is_not_done(tmp_path, done):
    path, entry = done
    manifest = Manifest(tmp_path / "out")
    manifest.add(path, entry)
    path.write_bytes(b"CONTENT")
    assert manifest.is_done(path, {"threshold": 0.5}) is None


def test_a_line_has_what_is_needed_to_resume(tmp_path, done):
    path, entry = done
    manifest = Manifest(tmp_path / "out")
    manifest.add(path, entry)
    record = json.loads(manifest.path.read_text(encoding="utf-8"))
    assert record == {
        "input": str(path),
        "size": 7,
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
        "settings": {"threshold": 0.5},
        "outputs": {"a.jsonl": 3},
        "frames": 3,
        "instances": 4,
    }


def test_a_manifest_survives_a_crash_while_it_was_written(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"content")
    entry = Entry(Fingerprint.of(path), {"threshold": 0.5}, {}, 3, 4)
    manifest = Manifest(tmp_path)
    manifest.add(path, entry)
    whole = manifest.path.read_bytes()
    manifest.path.write_bytes(whole + whole[: len(whole) // 2])
    again = Manifest(tmp_path)
    assert again.is_done(path, {"threshold": 0.5}) == entry
    assert again.is_done(path, {"threshold": 0.6}) is None
    again.add(path, entry)
    assert manifest.path.read_bytes() == whole * 2
    manifest.path.write_bytes(b"{}\n")
    with pytest.raises(SinkError, match=r"line 1 of .*manifest\.jsonl is damaged"):
        Manifest(tmp_path)


def test_sizes_of_files_and_folders(tmp_path):
    (tmp_path / "crops" / "sub").mkdir(parents=True)
    (tmp_path / "crops" / "sub" / "b.png").write_bytes(b"12")
    (tmp_path / "a.json").write_bytes(b"1")
    assert output_sizes(tmp_path, [tmp_path / "a.json", tmp_path / "crops"]) == {"a.json": 1, "crops/sub/b.png": 2}
