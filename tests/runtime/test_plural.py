import pytest

from pumpseg.plural import counted


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("frame",), "0 frames"),
        (1, ("frame",), "1 frame"),
        (2, ("frame",), "2 frames"),
        (1, ("batch", "batches"), "1 batch"),
        (7, ("batch", "batches"), "7 batches"),
    ],
)
def test_one_is_singular(count, words, text):
    assert counted(count, *words) == text
