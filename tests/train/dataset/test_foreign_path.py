"""Photos are found under the paths of other machines, and never outside their folders."""

from pathlib import Path

import pytest

from pumpseg_train.dataset.foreign_path import find_photo, is_elsewhere, tails


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.png", "a.png"),
        ("day 1/a.png", "day 1/a.png"),
        ("data/upload/day 1/a.png", "day 1/a.png"),
        ("D:\\photos\\day 1\\a.png", "day 1/a.png"),
        ("/mnt/server/a.png", "a.png"),
        ("../../a.png", "a.png"),
        ("/data/local-files/?d=day 1/a.png", "day 1/a.png"),
        ("https://example.org/day%201/a.png", "day 1/a.png"),
        ("\\\\server\\share\\a.png", "a.png"),
        ("a..b.png", "a..b.png"),
        ("x/gone.png", "x/gone.png"),
    ],
)
def test_photos_are_found_by_the_longest_tail_that_exists(tmp_path, name, found):
    (tmp_path / "in" / "day 1").mkdir(parents=True)
    for path in ("a.png", "in/a.png", "in/day 1/a.png"):
        (tmp_path / path).touch()
    assert find_photo([tmp_path / "in"], name) == tmp_path / "in" / found


def test_the_longest_tail_goes_before_the_first_folder(tmp_path):
    for path in ("images/a.png", "day 2/a.png"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    places = [tmp_path / "images", tmp_path]
    assert find_photo(places, "x/day 2/a.png") == tmp_path / "day 2" / "a.png"
    assert find_photo(places, "x/a.png") == tmp_path / "images" / "a.png"


@pytest.mark.parametrize("name", ["/a/b.png", "../b.png", "C:\\a\\..\\b.png", "C:b.png", "\\\\s\\t\\b.png", "", ".."])
def test_tails_stay_below(name):
    for tail in tails(name):
        assert not tail.is_absolute()
        assert ".." not in tail.parts


@pytest.mark.parametrize("name", ["a\0.png", "x/" + "y" * 256, "\ud800"])
def test_names_that_no_file_can_have_are_an_error(tmp_path, name):
    with pytest.raises(ValueError, match=r"no file can have the name|surrogates not allowed"):
        find_photo([tmp_path], name)


def test_what_is_found_by_less_than_its_name_is_elsewhere():
    assert not is_elsewhere(Path("/set/images/day/a.png"), "./day/a.png")
    assert not is_elsewhere(Path("a.png"), "a.png")
    assert is_elsewhere(Path("/set/images/a.png"), "day/a.png")
