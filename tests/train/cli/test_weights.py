"""Names and options of a Matterport .h5."""

import pytest

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.weights import is_weights, mrcnn_class_names


def test_the_background_that_lists_of_mrcnn_begin_with_is_no_class(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("BG\nballoon\n", encoding="utf-8-sig")
    assert mrcnn_class_names([str(names)], 1) == ("balloon",)
    assert mrcnn_class_names(["background", "balloon"], 2) == ("background", "balloon"), "a class by that name"


def test_lists_of_names_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "names.txt").write_text("")
    with pytest.raises(PumpsegError, match=r"names\.txt names no classes"):
        mrcnn_class_names([str(tmp_path / "names.txt")], None)
    with pytest.raises(PumpsegError, match="names 'cat' twice"):
        mrcnn_class_names(["cat", "dog", "cat"], None)


def test_weights_are_known_by_their_suffix(tmp_path):
    assert is_weights(tmp_path / "a.H5")
    assert not is_weights(tmp_path / "a.onnx")
