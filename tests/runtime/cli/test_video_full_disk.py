"""`pumpseg-video` on a disk that fills up."""

import os
import shutil
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from pumpseg.batch.manifest import MANIFEST


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    if not shutil.which("mount") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def command(*arguments):
    line = [sys.executable, "-m", "pumpseg.cli.video", *map(str, arguments), "--no-show"]
    return subprocess.run(line, capture_output=True, text=True)


def bright_noise(path, frames, size):
    """A clip that is full of instances and takes much room, marked or not."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            picture = rng.integers(190, 256, (*size, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
    return path


@pytest.mark.parametrize(
    "output", ["--save=out.mp4", "--save=frames", "--save-crops=crops", "--json=out.jsonl", "--coco=out.json"]
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, small_disk, model_path, output):
    clip = bright_noise(tmp_path / "clip.mp4", 20, (128, 128))
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 16 * 1024))
    option, name = output.split("=")
    done = command(clip, "--model", model_path, option, small_disk / name)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("pumpseg-video: error: cannot write ")
    assert "Traceback" not in done.stderr
    assert errors[0].endswith("No space left on device")
    left = [path for path in small_disk.rglob("*") if path.is_file() and path.name != "ballast"]
    assert bool(left) == (name in ("frames", "crops"))
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None for path in left)


def test_a_full_disk_takes_only_its_own_output_down(tmp_path, small_disk, model_path):
    clip = bright_noise(tmp_path / "clip.mp4", 20, (128, 128))
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 16 * 1024))
    kept = tmp_path / "kept.mp4"
    done = command(clip, "--model", model_path, "--save", kept, "--json", small_disk / "lost.jsonl")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"lost.jsonl: No space left on device; kept: {kept}")
    with av.open(str(kept)) as container:
        assert len(list(container.decode(video=0))) == 20
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_a_full_disk_in_a_batch(tmp_path, small_disk, model_path, make_clip):
    bright_noise(tmp_path / "large.mp4", 60, (256, 256))
    make_clip(tmp_path / "small.mp4", frames=5)
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 40 * 1024))
    inputs = (tmp_path / "large.mp4", tmp_path / "small.mp4", "--save-dir", small_disk, "--model", model_path)
    done = command(*inputs)
    assert done.returncode == 1, done.stderr
    assert "2 inputs: 1 done, 1 failed" in done.stderr
    assert "No space left on device" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", MANIFEST, "small.mp4"]
    (small_disk / "ballast").unlink()
    assert command(*inputs).returncode == 0


def test_crops_that_fill_the_disk_leave_room_for_the_other_inputs(tmp_path, small_disk, model_path, make_clip):
    bright_noise(tmp_path / "large.mp4", 60, (256, 256))
    make_clip(tmp_path / "small.mp4", frames=5)
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 200 * 1024))
    inputs = (tmp_path / "large.mp4", tmp_path / "small.mp4", "--save-dir", small_disk, "--model", model_path)
    options = ("--save-crops", "--no-annotate")
    done = command(*inputs, *options)
    assert done.returncode == 1, done.stderr
    assert "2 inputs: 1 done, 1 failed" in done.stderr
    assert "No space left on device" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", MANIFEST, "small.mp4.crops"]
    assert command(*inputs, *options, "--threshold", "0.99").returncode == 0
