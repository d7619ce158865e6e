from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg.errors import SinkError
from pumpseg.video.sinks.images import CropSink, FrameFolderSink, ImageFolderSink, ImageSink


@pytest.mark.parametrize("name", ["out.xyz", "out.mp4"])
def test_an_unknown_image_format(tmp_path, name):
    with pytest.raises(SinkError, match="is not an image format"):
        ImageSink(tmp_path / name)


def test_an_image_is_written(tmp_path, square_frame, make_result):
    sink = ImageSink(tmp_path / "out.png")
    sink.write(make_result(square_frame))
    sink.complete()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), square_frame)


def test_an_image_is_marked_under_its_own_name(tmp_path, square_frame, make_result):
    inputs = (Path("x/a.png"), Path("y/b.jpg"))
    sink = ImageFolderSink(inputs, tmp_path / "out")
    for path in inputs:
        sink.write(make_result(square_frame, source=str(path)))
    sink.complete()
    sink.discard()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / "a.png")), square_frame)


def test_crops_are_transparent_outside_the_mask(tmp_path, make_result, make_instances):
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    instances = make_instances((60, 80), [(10, 20, 30, 50), (40, 5, 60, 25)])
    instances.cells.probabilities[1, :, 2:] = 0
    for of_video, index, stem in ((False, 0, "a b"), (True, 7, "a b-000007")):
        names = [f"{stem}-00.png", f"{stem}-01.png"]
        folder = tmp_path / str(of_video)
        sink = CropSink(folder, of_video=of_video)
        sink.write(make_result(picture, index, instances=instances, source="x/a b.mp4"))
        sink.complete()
        sink.discard()
        assert sorted(path.name for path in folder.iterdir()) == names
        whole = cv2.imread(str(folder / names[0]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(whole[..., :3], picture[20:50, 10:30])
        assert (whole[..., 3] == 255).all()
        alpha = cv2.imread(str(folder / names[1]), cv2.IMREAD_UNCHANGED)[..., 3]
        np.testing.assert_array_equal(alpha == 255, instances.crop_masks[1].mask)
        assert set(np.unique(alpha)) == {0, 255}


def test_a_camera_s_name_makes_file_names(tmp_path, make_result, make_instances):
    sink = CropSink(tmp_path / "cut", of_video=True)
    instances = make_instances((60, 80), [(0, 0, 9, 9)])
    sink.write(make_result(np.zeros((60, 80, 3), np.uint8), 3, instances=instances, source="rtsp://cam:554/a?b=c"))
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["a_b_c-000003-00.png"]


def test_crops_of_two_images_do_not_get_the_same_names(tmp_path):
    with pytest.raises(SinkError, match=r"crops of a\.jpg and b.a\.png would have the same names"):
        CropSink(tmp_path / "cut", (Path("a.jpg"), Path("b/a.png")), of_video=False)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_video_go_into_a_folder(tmp_path, make_result):
    sink = FrameFolderSink(tmp_path / "frames")
    for i in range(3):
        picture = np.full((8, 8, 3), 40 * i, np.uint8)
        sink.write(make_result(picture, i))
    sink.complete()
    sink.discard()
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["000000.jpg", "000001.jpg", "000002.jpg"]
    with pytest.raises(SinkError, match="already has frames"):
        FrameFolderSink(tmp_path / "frames")


def test_a_folder_that_stays_empty_is_taken_away(tmp_path):
    for sink in (FrameFolderSink(tmp_path / "frames"), CropSink(tmp_path / "cut", of_video=True)):
        sink.discard()
    assert list(tmp_path.iterdir()) == []
