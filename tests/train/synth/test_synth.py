"""The pumpkin renderer: the same seed draws the same picture, and every mask is exact."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pumpseg.errors import DatasetError, SinkError
from pumpseg_train.cli.data import main
from pumpseg_train.dataset.masks import mask_record
from pumpseg_train.synth.clip import Actor, camera_at, make_stage, render_clip, write_clip
from pumpseg_train.synth.dataset import scene_of, write_dataset
from pumpseg_train.synth.ground import Camera
from pumpseg_train.synth.noise import Array, encode_srgb, layered_noise, linear
from pumpseg_train.synth.pumpkin import Pumpkin, make_pumpkin, random_light, render_pumpkin
from pumpseg_train.synth.scene import SMALLEST_AREA, compose, render_scene
from pumpseg_train.synth.solid import MAP_COLUMNS, MAP_ROWS, UPRIGHT, Light, Placement, Sprite, normals, rotation

SMALL = (128, 96)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def standing(pumpkin: Pumpkin, turn: Array, pitch: float, scale: float) -> Placement:
    """Placement of a lone pumpkin of unit size on the ground, seen from `pitch` radians above the horizon."""
    sin, cos = float(np.sin(pitch)), float(np.cos(pitch))
    view = np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
    lowest = float((pumpkin.support @ turn.T)[:, 1].min())
    middle = pumpkin.reach * scale + 2
    return Placement(np.array([0.0, -lowest, 0.0]), 1.0, turn, view, (middle, middle), scale)


def test_body_has_no_holes_in_its_mask():
    for seed in range(3):
        pumpkin = make_pumpkin(rng(seed))
        turn = rotation(np.array([1.0, 0.2, 0.4]), 0.7 * seed) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.4, 30.0), random_light(rng(seed)))
        outlines, _ = cv2.findContours(sprite.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        assert len(outlines) == 1
        filled = cv2.drawContours(np.zeros(sprite.mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
        # A bent stem may close a loop with the body; a ray that missed it may not.
        assert filled.sum() - sprite.mask.sum() < 0.004 * filled.sum()


def test_turning_a_pumpkin_turns_its_skin():
    pumpkin = make_pumpkin(rng(1), carved=False)
    light = random_light(rng(1))

    def seen(angle: float) -> np.ndarray:
        turn = rotation(np.array([0.0, 1.0, 0.0]), angle) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.3, 24.0), light)
        canvas = np.zeros((160, 160, 3), np.float32)
        compose(canvas, [sprite], [1])
        return canvas

    still, full_turn, part_turn = seen(0.0), seen(2 * np.pi), seen(0.4)
    assert np.abs(still - full_turn).max() < 0.05
    assert np.abs(still - part_turn).mean() > 10 * np.abs(still - full_turn).mean()


def test_carved_face_looks_at_the_camera_when_upright():
    pumpkin = make_pumpkin(rng(2), carved=True, lit=True, classic=True)
    dark = np.zeros(3, np.float32)
    night = Light(np.array([0.0, 1.0, 0.0]), key=dark, sky=dark, bounce=dark, softness=0.5)

    def glowing(angle: float) -> float:
        turn = rotation(np.array([0.0, 1.0, 0.0]), angle) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.1, 24.0), night)
        return float(sprite.colour.sum())

    assert glowing(0.0) > 20 * glowing(np.pi)


def test_normals_of_a_ball_point_outwards():
    ball = np.ones((MAP_ROWS, MAP_COLUMNS), np.float32)
    found = normals(ball)
    assert np.allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert found[MAP_ROWS // 2, 0] == pytest.approx([1, 0, 0], abs=0.02)


@given(st.floats(-20, 20), st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_rotations_keep_lengths_and_handedness(angle, axis):
    turn = rotation(np.array(axis), angle)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.allclose(turn @ np.array(axis), axis, atol=1e-9)


@given(st.floats(0, 1.4), st.floats(-0.5, 0.5), st.floats(-1, 1), st.floats(0, 1), st.floats(2, 9))
def test_camera_projects_along_its_axes(pitch, yaw, x, y, z):
    camera = Camera(np.array([0.0, 1.0, 0.0]), pitch, yaw, 500.0, (640, 480))
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-9)
    (column, row), depth = camera.project(np.array([x, y, z]))
    if depth > 0.1:
        right, up, ahead = camera.axes
        ray = ahead + (column - 320) / 500 * right - (row - 240) / 500 * up
        assert np.allclose(camera.position + depth * ray, [x, y, z], atol=1e-6)


@given(*[st.integers(0, 255)] * 3)
def test_linear_light_and_back(red, green, blue):
    assert np.abs(encode_srgb(linear(red, green, blue)).astype(int) - [blue, green, red]).max() <= 1


def test_wrapped_noise_meets_itself():
    noise = layered_noise(rng(5), (16, 256), (2, 5), 2, wrap_x=True)
    step_inside = np.abs(np.diff(noise, axis=1)).max()
    assert np.abs(noise[:, 0] - noise[:, -1]).max() <= 1.5 * step_inside


@settings(max_examples=30)
@given(st.integers(-30, 40), st.integers(-30, 40), st.integers(1, 25), st.integers(1, 25))
def test_compose_clips_sprites_to_the_image(x, y, width, height):
    image = np.zeros((24, 32, 3), np.float32)
    sprite = Sprite(np.ones((height, width, 3), np.float32), np.ones((height, width), np.float32), (x, y))
    owner = compose(image, [sprite], [7])
    rows = max(0, min(24, y + height) - max(0, y))
    columns = max(0, min(32, x + width) - max(0, x))
    assert np.count_nonzero(owner == 7) == rows * columns
    assert image.sum() == 3 * rows * columns


def test_the_nearer_sprite_owns_the_pixel_and_half_cover_counts():
    image = np.zeros((4, 4, 3), np.float32)
    far = Sprite(np.ones((4, 4, 3), np.float32), np.ones((4, 4), np.float32), (0, 0))
    alpha = np.array([[0.49, 0.5]], np.float32)
    near = Sprite(np.zeros((1, 2, 3), np.float32), alpha, (1, 1))
    owner = compose(image, [far, near], [1, 2])
    assert owner[1].tolist() == [1, 1, 2, 1]
    assert image[1, 1, 0] == pytest.approx(0.51)


@given(st.lists(st.booleans(), min_size=35, max_size=35).filter(any))
def test_mask_record_is_what_pycocotools_reads(bits):
    mask = np.array(bits).reshape(5, 7)
    record = mask_record(mask)
    assert np.array_equal(coco_mask.decode(record["segmentation"]).astype(bool), mask)
    assert record["area"] == coco_mask.area(record["segmentation"]) == mask.sum()
    assert record["bbox"] == coco_mask.toBbox(record["segmentation"]).tolist()
    json.dumps(record)


def test_scene_masks_are_disjoint_and_on_the_pumpkins():
    scenes = [render_scene(rng(seed), SMALL) for seed in range(5)]
    for scene in scenes:
        assert scene.image.shape == (96, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape[1:] == (96, 128)
        assert scene.masks.dtype == bool
        assert scene.masks.sum(axis=0).max(initial=0) <= 1
        assert all(mask.sum() >= SMALLEST_AREA for mask in scene.masks)
    assert sum(len(scene.masks) for scene in scenes) >= 5


def test_same_seed_same_scene_and_another_seed_another():
    first, again, other = (scene_of(seed, "train", 0, SMALL) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes()
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, scene_of(1, "val", 0, SMALL).image)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    arguments = ["synth", "--out", str(out), "--images", "4", "--seed", "1", "--size", "128x96"]
    assert main(arguments) == 0
    return out


def test_dataset_is_laid_out_as_coco(dataset):
    assert sorted(path.name for path in dataset.iterdir()) == ["train", "val"]
    assert [path.name for path in dataset.parent.iterdir()] == ["data"]
    total = 0
    for split, count in (("train", 4), ("val", 1)):
        coco = COCO(str(dataset / split / "annotations.json"))
        assert coco.loadCats([1]) == [{"id": 1, "name": "pumpkin"}]
        names = sorted(image["file_name"] for image in coco.imgs.values())
        assert names == sorted(path.name for path in (dataset / split / "images").iterdir())
        assert len(names) == count
        for image in coco.imgs.values():
            picture = cv2.imread(str(dataset / split / "images" / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3) == (96, 128, 3)
        for annotation in coco.anns.values():
            mask = coco.annToMask(annotation)
            assert mask.shape == (96, 128)
            assert mask.sum() == annotation["area"]
            assert annotation["iscrowd"] == 0
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        total += len(coco.anns)
    assert total > 0


def test_dataset_is_the_same_for_the_same_seed(dataset, tmp_path):
    write_dataset(tmp_path / "again", 1, 1, seed=1, size=SMALL)
    name = "train/images/synth_1_000000.jpg"
    assert (tmp_path / "again" / name).read_bytes() == (dataset / name).read_bytes()


@pytest.fixture
def blue_photos(tmp_path):
    """A folder of one photo, all of it blue."""
    (tmp_path / "backgrounds").mkdir()
    cv2.imwrite(str(tmp_path / "backgrounds" / "blue.png"), np.full((70, 90, 3), (200, 40, 20), np.uint8))
    return tmp_path / "backgrounds"


@pytest.fixture
def green_pumpkins(tmp_path):
    """A data set of one photo with a green disc, which is called a pumpkin, and a crowd."""
    folder = tmp_path / "cutouts"
    (folder / "images").mkdir(parents=True)
    picture, disc = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    cv2.circle(picture, (50, 50), 40, (0, 255, 0), cv2.FILLED)
    cv2.circle(disc, (50, 50), 40, 1, cv2.FILLED)
    cv2.imwrite(str(folder / "images" / "a.png"), picture)
    annotation = {"image_id": 1, "category_id": 1, **mask_record(disc.astype(bool))}
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "pumpkin"}],
        "annotations": [{"id": 1, "iscrowd": 0, **annotation}, {"id": 2, "iscrowd": 1, **annotation}],
    }
    (folder / "annotations.json").write_text(json.dumps(truth), encoding="utf-8")
    return folder


def test_given_cutouts_and_backgrounds_come_into_the_pictures(tmp_path, blue_photos, green_pumpkins):
    out = tmp_path / "data"
    given = ["--paste-from", str(green_pumpkins), "--backgrounds", str(blue_photos)]
    assert main(["synth", "--out", str(out), "--images", "6", "--seed", "2", "--size", "128x96", *given]) == 0
    coco = COCO(str(out / "train" / "annotations.json"))
    green_inside = green_outside = green_masks = 0
    blue = []
    for image in coco.imgs.values():
        picture = cv2.imread(str(out / "train" / "images" / image["file_name"])).astype(int)
        b, g, r = np.moveaxis(picture, -1, 0)
        green = (g > 1.6 * b + 20) & (g > 1.6 * r + 20)
        inside = np.zeros(green.shape, bool)
        for annotation in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(annotation).astype(bool)
            inside |= mask
            green_masks += green[mask].mean() > 0.6
        green_inside += np.count_nonzero(green & inside)
        # A pixel more for the lens and JPEG.
        wide = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > 0
        green_outside += np.count_nonzero(green & ~wide)
        blue.append(np.mean((b > 1.3 * g) & (b > 1.3 * r)))
    assert green_masks > 2
    assert green_outside < 0.05 * green_inside
    assert np.median(blue) > 0.3


def test_folder_with_something_in_it_is_refused(dataset, capsys):
    before = sorted(dataset.rglob("*"))
    assert main(["synth", "--out", str(dataset), "--images", "1"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before


def test_empty_folder_is_taken(tmp_path):
    write_dataset(tmp_path, 1, 1, size=(64, 64))
    assert (tmp_path / "val" / "annotations.json").is_file()


def test_the_working_folder_is_filled_and_stays_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    assert main(["synth", "--out", ".", "--images", "1", "--size", "64x64"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "val"]
    assert tmp_path.stat().st_ino == before


def test_a_link_to_a_folder_that_is_yet_to_be_made_leads_to_it(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "place")
    write_dataset(tmp_path / "link", 1, 1, size=(64, 64))
    assert (tmp_path / "place" / "val" / "annotations.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "place"]


def test_interrupted_run_leaves_an_empty_folder_empty(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pumpseg_train.synth.dataset.render_scene", interrupted)
    assert main(["synth", "--out", str(tmp_path), "--images", "1"]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("truth", "message"), [("none/t.jsonl", "t.jsonl: No such file"), ("c.mp4", "two outputs would be written to")]
)
def test_a_truth_that_cannot_be_written_is_told_before_the_clip_is_rendered(
    truth, message, tmp_path, monkeypatch, capsys
):
    def rendered(*_):
        raise AssertionError("the clip was rendered")

    monkeypatch.setattr("pumpseg_train.synth.clip.render_clip", rendered)
    assert main(["synth", "--clip", str(tmp_path / "c.mp4"), "--truth", str(tmp_path / truth)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pumpseg_train.synth.dataset.render_scene", interrupted)
    assert main(["synth", "--out", str(tmp_path / "data"), "--images", "1"]) == 130
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "DIR"],
        ["--out", "DIR", "--images", "0"],
        ["--out", "DIR", "--images", "1", "--val-images", "0"],
        ["--out", "DIR", "--images", "1", "--size", "640"],
        ["--out", "DIR", "--images", "1", "--size", "16x16"],
        ["--out", "DIR", "--images", "1", "--seed", "-1"],
        ["--out", "DIR", "--images", "1", "--truth", "t.jsonl"],
        ["--clip", "DIR/c.avi"],
        ["--clip", "DIR/c.mp4", "--images", "3"],
        ["--clip", "DIR/c.mp4", "--backgrounds", "DIR"],
        ["--out", "DIR/new", "--images", "1", "--backgrounds", "DIR"],
        ["--out", "DIR/new", "--images", "1", "--paste-from", "DIR"],
        ["--clip", "DIR/c.mp4", "--seconds", "0"],
        ["--clip", "DIR/c.mp4", "--seconds", "nan"],
        ["--clip", "DIR/c.mp4", "--size", "65x64"],
        ["--clip", "DIR/none/c.mp4", "--size", "64x64", "--seconds", "0.1"],
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, tmp_path, capsys):
    assert main(["synth", *(word.replace("DIR", str(tmp_path)) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pumpseg-data: error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_errors_are_catchable_by_kind(tmp_path):
    with pytest.raises(DatasetError):
        write_dataset(tmp_path, 0)
    with pytest.raises(SinkError):
        write_clip(tmp_path / "c.mp4", fps=0)


def test_actor_rolls_without_slipping():
    pumpkin = make_pumpkin(rng(1), carved=False, classic=True)
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
        # On the whole the pumpkins are redder than what lies around them.
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
