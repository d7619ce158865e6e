"""Texts with a byte order mark, as Windows' editors and shells write them."""

import codecs

import pytest

from pumpseg_train.dataset.text_file import read_json, read_text


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_the_mark_says_the_encoding(tmp_path, mark, encoding):
    path = tmp_path / "a.json"
    path.write_bytes(mark + '{"name": "Kürbis"}'.encode(encoding))
    assert read_text(path) == '{"name": "Kürbis"}'
    assert read_json(path) == {"name": "Kürbis"}


def test_another_encoding_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"K\xfcrbis")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a.txt")
