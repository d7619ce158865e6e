"""What is matched with what, and the pictures that show it."""

import dataclasses

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pumpseg.errors import PumpsegError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.evaluation.operating_point import score_detections
from pumpseg_train.evaluation.report import draw_matches, match_photos, write_report

LARGE, MIDDLE, SMALL = (60, 60, 40, 35), (120, 70, 25, 28), (30, 95, 14, 12)


@pytest.fixture
def dataset(tmp_path, make_split):
    """Two photos: a pumpkin and an apple; a pumpkin."""
    make_split(tmp_path, [[(0, LARGE), (1, MIDDLE)], [(0, SMALL)]], classes=("pumpkin", "apple"))
    return read_dataset(tmp_path)


def result(photo, mask, category_id, score=0.9):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    bbox = coco_mask.toBbox(encoded).tolist()
    return {"image_id": photo.id, "category_id": category_id, "bbox": bbox, "score": score, "segmentation": encoded}


def masks(photo):
    return [annotation.mask(photo.width, photo.height) for annotation in photo.annotations]


def perfect(dataset):
    return [
        result(photo, mask, annotation.class_id)
        for photo in dataset.photos
        for annotation, mask in zip(photo.annotations, masks(photo), strict=True)
    ]


def test_perfect_results_lie_on_the_diagonal(dataset):
    matrix, photos = match_photos(dataset, perfect(dataset), 0.5)
    assert matrix.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert [matches.missed + matches.wrong for matches in photos] == [0, 0]


def test_nothing_found_is_all_missed(dataset):
    matrix, photos = match_photos(dataset, perfect(dataset), 0.95)
    assert matrix.tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]
    assert [matches.missed + matches.wrong for matches in photos] == [2, 1]


def test_a_pumpkin_taken_for_an_apple_is_a_confusion_not_a_false_alarm(dataset):
    photo = dataset.photos[1]
    matrix, photos = match_photos(dataset, [result(photo, masks(photo)[0], 2)], 0.5)
    assert matrix.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert (photos[1].wrong, photos[1].missed) == (1, 1), "wrong, and the pumpkin was not found"


def test_the_second_of_two_detections_of_one_object_is_wrong(dataset):
    photo = dataset.photos[1]
    twice = [result(photo, masks(photo)[0], 1, score) for score in (0.6, 0.8)]
    matrix, photos = match_photos(dataset, twice, 0.5)
    assert matrix[2].tolist() == [1, 0, 0]
    assert photos[1].found.tolist() == [True, False], "the better score comes first"
    assert photos[1].detections[0]["score"] == 0.8


def test_what_lies_in_a_crowd_region_counts_neither_way(dataset):
    photo = dataset.photos[1]
    crowd = dataclasses.replace(photo.annotations[0], crowd=True)
    changed = dataclasses.replace(dataset, splits={"val": (dataclasses.replace(photo, annotations=(crowd,)),)})
    part = masks(photo)[0].copy()
    part[:95] = 0
    matrix, photos = match_photos(changed, [result(photo, part, 1)], 0.5)
    assert matrix.sum() == 0
    assert photos[0].ignored.tolist() == [True]
    assert (photos[0].wrong, photos[0].missed) == (0, 0)


def test_right_is_drawn_green_and_missed_blue(dataset):
    photo = dataset.photos[0]
    _, photos = match_photos(dataset, perfect(dataset)[:1], 0.5)
    picture = draw_matches(photos[0]).astype(int)
    edge = cv2.morphologyEx(masks(photo)[0], cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    assert (picture[edge] == (80, 220, 60)).all(axis=1).mean() > 0.3
    edge = cv2.morphologyEx(masks(photo)[1], cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    assert (picture[edge] == (255, 196, 0)).all(axis=1).mean() > 0.3


def reported(folder, dataset, results, highest=()):
    return write_report(folder, dataset, results, 0.5, score_detections(match_photos(dataset, results, 0)[1], highest))


@pytest.mark.parametrize("results", ["perfect", "none"])
def test_a_report_is_pictures_and_a_table(dataset, tmp_path, results):
    paths = reported(tmp_path / "report", dataset, perfect(dataset) if results == "perfect" else [])
    names = ["precision_recall.png", "confusion.png", "reliability.png", "photos.csv", "worst.jpg"]
    assert [path.name for path in paths] == names
    rows = []
    for photo in dataset.photos:
        count = len(photo.annotations)
        rows.append(f"{photo.path.name},{count},{0 if results == 'perfect' else count},0")
    assert sorted(paths[3].read_text(encoding="utf-8").splitlines()[1:]) == sorted(rows)
    for path in paths[:3] + paths[4:]:
        assert cv2.imread(str(path)).std() > 5


def test_cells_of_the_confusion_are_shaded_by_their_count(dataset, tmp_path):
    reported(tmp_path, dataset, perfect(dataset))  # two pumpkins, one apple
    picture = cv2.imread(str(tmp_path / "confusion.png")).astype(int)
    blue = picture[..., 0] - picture[..., 2]

    def cells(shade):
        count, _, stats, _ = cv2.connectedComponentsWithStats(shade.astype(np.uint8))
        return sum(stats[label, cv2.CC_STAT_AREA] > 2000 for label in range(1, count))

    assert cells((blue > 80) & (picture[..., 0] < 130)) == 1  # the count of two, darkest
    assert cells((blue > 80) & (picture[..., 0] > 180)) == 1  # half of that


def test_recall_is_drawn_against_false_alarms_where_these_were_counted(dataset, tmp_path):
    paths = reported(tmp_path, dataset, perfect(dataset), highest=[0.0, 0.3, 0.7])
    (alarms,) = (path for path in paths if path.name == "recall_alarms.png")
    assert cv2.imread(str(alarms)).std() > 5


def test_the_table_begins_with_the_worst_photo(dataset, tmp_path):
    first, second = dataset.photos
    found = [found for found in perfect(dataset) if found["image_id"] == first.id]
    reported(tmp_path, dataset, found)
    table = (tmp_path / "photos.csv").read_text(encoding="utf-8").splitlines()
    assert table == [
        "photo,instances,missed,wrong",
        f"{second.path.name},1,1,0",
        f"{first.path.name},2,0,0",
    ]


def test_a_report_that_cannot_be_written_is_named(dataset, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(PumpsegError, match="cannot write"):
        reported(tmp_path / "file" / "report", dataset, perfect(dataset))
