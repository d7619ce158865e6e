import pytest
from PIL import Image

from pumpseg.video.sources.media_kind import MediaKind, is_animated_webp, kind_of
from pumpseg.video.sources.open import open_video

CONTAINERS = {
    "raw.h264": {"container_format": "h264"},
    "recorder.dav": {"container_format": "h264"},
    "old.asf": {"codec": "wmv2"},
    "broadcast.mxf": {"codec": "mpeg2video"},
    "VTS_01_1.VOB": {"codec": "mpeg2video", "container_format": "vob"},
    "phone.3g2": {"codec": "mpeg4"},
    "frames.mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "old.divx": {"codec": "mpeg4", "container_format": "avi"},
    "no_suffix": {"container_format": "mp4"},
    "clip.jpg": {"container_format": "mp4"},
    "clip.mp4.part": {"container_format": "matroska"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_video_is_known_by_its_content(make_clip, tmp_path, name):
    path = make_clip(tmp_path / name, 5, **CONTAINERS[name])
    assert kind_of(path) is MediaKind.VIDEO
    with open_video(path) as source:
        assert len(list(source)) == 5


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".gif"])
def test_an_image_is_known_by_its_content(tmp_path, suffix, square_frame):
    Image.fromarray(square_frame).save(tmp_path / f"image{suffix}")
    for name in ("image", "image.mp4", "image.jpg"):
        path = (tmp_path / name).absolute()
        path.write_bytes((tmp_path / f"image{suffix}").read_bytes())
        assert kind_of(path) is MediaKind.IMAGE


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animated_picture_is_a_video(tmp_path, suffix, square_frame):
    path = tmp_path / f"a{suffix}"
    images = [Image.fromarray(square_frame // share) for share in (1, 2, 3)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, loop=0)
    assert kind_of(path) is MediaKind.VIDEO
    assert is_animated_webp(path) == (suffix == ".webp")
    with open_video(path) as source:
        frames = list(source)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}


def test_what_is_neither(tmp_path, square_frame):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 50)
    (tmp_path / "clip.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "nothing").touch()
    for name in ("table.csv", "clip.srt", "photo.heic", "nothing"):
        assert kind_of(tmp_path / name) is None


def test_a_damaged_file_is_what_its_suffix_says(tmp_path):
    for name, kind in (("a.jpg", MediaKind.IMAGE), ("a.mp4", MediaKind.VIDEO)):
        (tmp_path / name).write_bytes(b"damaged")
        assert kind_of(tmp_path / name) is kind
