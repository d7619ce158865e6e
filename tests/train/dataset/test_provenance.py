"""What the json files say of the set as a whole stays when it is divided."""

import json

from pumpseg_train.cli.data import main

LARGE, SMALL = (60, 60, 40, 35), (130, 95, 14, 12)


def test_what_the_json_says_of_itself_and_its_classes_stays(flat, tmp_path, edit_json):
    said = {"info": {"description": "mine", "year": 2024}, "licenses": [{"id": 3, "name": "CC0"}], "note": ["a"]}
    edit_json(flat, lambda content: content.update(said))
    edit_json(flat, lambda content: content["categories"][0].update(supercategory="fruit"))
    assert main(["split", str(flat), "--out", str(tmp_path / "out")]) == 0
    for split in ("train", "val"):
        content = json.loads((tmp_path / "out" / split / "annotations.json").read_text())
        assert {key: content[key] for key in said} == said
        assert content["categories"] == [
            {"id": 1, "name": "common"},
            {"id": 2, "name": "rare", "supercategory": "fruit"},
        ]


def test_splits_of_other_origin_and_licences_are_told_apart(tmp_path, make_split, edit_json):
    for split, fruits, said, licences in (
        ("train", [[(0, LARGE)], [(0, SMALL)]], "mine", ["CC BY", "CC0"]),
        ("val", [[(0, SMALL), (0, LARGE)]], "yours", ["CC0", "GPL"]),
    ):
        folder = make_split(tmp_path / "in" / split, fruits)
        edit_json(
            folder,
            lambda content, said=said, licences=licences: content.update(
                info={"description": said, "version": "1"},
                licenses=[{"id": number, "name": name} for number, name in enumerate(licences)],
                images=[image | {"license": number, "from": said} for number, image in enumerate(content["images"])],
            ),
        )
    line = ["split", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--val", "0.5"]
    assert main(line) == 0
    seen = set()
    for split in ("train", "val"):
        content = json.loads((tmp_path / "out" / split / "annotations.json").read_text())
        assert content["info"] == {"description": "mine; yours", "version": "1"}
        names = {licence["id"]: licence["name"] for licence in content["licenses"]}
        assert names == {0: "CC BY", 1: "CC0", 2: "GPL"}
        seen |= {(image["from"], names[image["license"]]) for image in content["images"]}
    assert seen == {("mine", "CC BY"), ("mine", "CC0"), ("yours", "CC0")}
