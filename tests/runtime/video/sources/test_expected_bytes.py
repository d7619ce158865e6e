import pytest

from pumpseg.video.sources.expected_bytes import expected_bytes


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_whole_file_has_the_bytes_it_should_have(tmp_path, make_clip, suffix):
    clip = make_clip(tmp_path / f"whole{suffix}", frames=3)
    whole = clip.stat().st_size
    assert expected_bytes(clip) == whole
    clip.write_bytes(clip.read_bytes()[: whole * 2 // 3])
    assert expected_bytes(clip) > whole * 2 // 3


def test_formats_that_do_not_say(tmp_path, make_clip):
    assert expected_bytes(make_clip(tmp_path / "a.ts", frames=3)) is None
