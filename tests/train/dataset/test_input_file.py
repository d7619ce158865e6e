"""Text files as others write them; what is no regular file, no text or no json is one line."""

import codecs
import os
import zipfile

import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.input_file import read_bytes, read_json, read_text, refuse_zip


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_the_mark_says_the_encoding(tmp_path, mark, encoding):
    path = tmp_path / "a.json"
    path.write_bytes(mark + '{"name": "Kürbis"}'.encode(encoding))
    assert read_text(path) == '{"name": "Kürbis"}'
    assert read_json(path, "json") == {"name": "Kürbis"}


@pytest.mark.parametrize("content", ["南瓜".encode("gb18030"), "{}".encode("utf-16-le"), codecs.BOM_UTF16_LE + b"a"])
def test_another_encoding_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.json is not UTF-8 text .*save it as UTF-8"):
        read_text(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": ' * 100_000])
def test_what_is_no_json_or_too_deep_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError, match=r"a\.json is not COCO json: "):
        read_json(tmp_path / "a.json", "COCO json")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "not a regular file"), (tmp_path, "not a regular file"), ("gone", "No such")):
        with pytest.raises(DatasetError, match=f"cannot read .*{why}"):
            read_bytes(tmp_path / path)
    with pytest.raises(DatasetError, match=r"cannot read .*null byte"):
        read_bytes(tmp_path / "a\0b")


def test_a_zip_is_refused_by_its_content(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.json", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(DatasetError, match=r"a\.json is a zip archive: unpack it"):
        refuse_zip(tmp_path / "a.json")
    (tmp_path / "b.zip").write_text("{}")
    for path in (tmp_path, tmp_path / "b.zip", tmp_path / "gone"):
        refuse_zip(path)
