"""Clips of rolling pumpkins with their exact truth."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pumpseg.errors import SinkError
from pumpseg_train.cli.data import main
from pumpseg_train.synth.clip import Actor, camera_at, make_stage, render_clip, write_clip
from pumpseg_train.synth.pumpkin import make_pumpkin
from pumpseg_train.synth.solid import UPRIGHT

SMALL = (128, 96)


def test_actor_rolls_without_slipping():
    pumpkin = make_pumpkin(np.random.default_rng(1), carved=False, classic=True)
    size = 0.2
    actor = Actor(pumpkin, size, (0.0, 2.0), (1.0, 0.0), UPRIGHT, 1)
    once_around = 2 * np.pi * 0.92 * size
    spot, turn = actor.at(once_around)
    assert spot == pytest.approx((once_around, 2.0))
    assert np.allclose(turn, UPRIGHT, atol=1e-9)
    _, quarter = actor.at(once_around / 4)
    # Rolling to the right, what was on top comes to the right.
    assert quarter @ UPRIGHT.T @ [0, 1, 0] == pytest.approx([1, 0, 0], abs=1e-9)


def test_no_two_pumpkins_of_a_clip_run_into_each_other():
    stage = make_stage(5, 5.0, SMALL)
    for time in np.linspace(0, 5, 101):
        spots = [(actor.at(time)[0], actor.size) for actor in stage.actors]
        for i, ((x, z), size) in enumerate(spots):
            for (a, b), other in spots[i + 1 :]:
                assert np.hypot(x - a, z - b) > 0.8 * (size + other)


def test_what_crosses_stays_apart_where_the_camera_sees_it():
    stage = make_stage(0, 20.0, SMALL, "crossing")
    assert len(stage.actors) == 10
    for time in np.linspace(0, 20, 201):
        camera = camera_at(time, 20.0, SMALL)
        seen = []
        for actor in stage.actors:
            x, z = actor.at(time)[0]
            (column, _), depth = camera.project(np.array([x, actor.size, z]))
            if abs(column - SMALL[0] / 2) < SMALL[0] / 2 + camera.focal * actor.size / depth:
                seen.append((x, z, actor.size))
        for i, (x, z, size) in enumerate(seen):
            for a, b, other in seen[i + 1 :]:
                assert np.hypot(x - a, z - b) > 0.8 * (size + other)


def test_the_scenario_can_be_chosen(tmp_path):
    clips = {name: tmp_path / f"{name}.mp4" for name in ("passing", "crossing")}
    for name, clip in clips.items():
        options = ["--scenario", name, "--seconds", "0.2", "--fps", "5", "--size", "64x64"]
        assert main(["synth", "--clip", str(clip), *options]) == 0
    assert clips["passing"].read_bytes() != clips["crossing"].read_bytes()


def test_clip_frames_are_the_same_for_the_same_seed():
    first, again, other = (next(iter(render_clip(0.2, 5, seed, SMALL))) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes()
    assert not np.array_equal(first.image, other.image)


def test_clip_file_and_its_truth(tmp_path):
    clip, truth = tmp_path / "clip.mp4", tmp_path / "truth.jsonl"
    options = ["--seconds", "0.8", "--fps", "5", "--seed", "5", "--size", "128x96"]
    assert main(["synth", "--clip", str(clip), "--truth", str(truth), *options]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "truth.jsonl"]
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 5
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(96, 128, 3)] * 4
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    assert [line["time"] for line in lines] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    for line, frame in zip(lines, frames, strict=True):
        masks = [coco_mask.decode(instance["segmentation"]) for instance in line["instances"]]
        assert len(masks) >= 2
        assert sum(masks).max() == 1
        assert len({instance["id"] for instance in line["instances"]}) == len(masks)
        # On the whole the pumpkins are redder than their surroundings.
        inside = sum(masks).astype(bool)
        red = frame[..., 2].astype(float) - frame[..., 0]
        assert red[inside].mean() > red[~inside].mean() + 20


def test_shipped_clip_is_small_and_what_it_should_be():
    import pumpseg

    clip = Path(pumpseg.__file__).parent / "demo" / "pumpkins.mp4"
    assert clip.stat().st_size < 1_200_000
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 640, 480)
        assert stream.frames == 120


@pytest.mark.parametrize(
    ("truth", "message"), [("none/t.jsonl", "t.jsonl: No such file"), ("c.mp4", "two outputs would be written to")]
)
def test_a_truth_that_cannot_be_written_is_reported_before_the_clip_is_rendered(
    truth, message, tmp_path, monkeypatch, capsys
):
    def rendered(*_):
        raise AssertionError("the clip was rendered")

    monkeypatch.setattr("pumpseg_train.synth.clip.render_clip", rendered)
    assert main(["synth", "--clip", str(tmp_path / "c.mp4"), "--truth", str(tmp_path / truth)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_clip_of_no_frames_is_refused(tmp_path):
    with pytest.raises(SinkError, match="0 frames/s"):
        write_clip(tmp_path / "c.mp4", fps=0)
