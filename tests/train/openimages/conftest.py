"""A small Open Images: photos, tables and mask archives that a local server hands out, as well or as badly as asked."""

import base64
import csv
import functools
import hashlib
import io
import json
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

PUMPKIN, APPLE = "/m/05zsy", "/m/014j1m"
SIZE = (48, 64)  # h, w of every photo
BOXES_CSV = {
    "train": "/v6/oidv6-train-annotations-bbox.csv",
    "validation": "/v5/validation-annotations-bbox.csv",
    "test": "/v5/test-annotations-bbox.csv",
}
COLUMNS = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"]
COLUMNS += ["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
CLICKS = [f"XClick{number}{axis}" for number in range(1, 5) for axis in "XY"]
MASK_COLUMNS = [
    "MaskPath",
    "ImageID",
    "LabelName",
    "BoxID",
    "BoxXMin",
    "BoxXMax",
    "BoxYMin",
    "BoxYMax",
    "PredictedIoU",
    "Clicks",
]


@dataclass(frozen=True)
class Thing:
    """One box of a photo: an ellipse (x, y, rx, ry), masked unless `scale`, the mask's size over the photo's, is 0."""

    ellipse: tuple[int, int, int, int]
    label: str = PUMPKIN
    scale: int = 2
    group: bool = False
    depiction: bool = False
    iou: str = "0.87"

    @property
    def mask(self):
        x, y, rx, ry = self.ellipse
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        return ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1

    @property
    def box(self):
        """XMin, XMax, YMin, YMax."""
        x, y, rx, ry = self.ellipse
        return (x - rx) / SIZE[1], (x + rx) / SIZE[1], (y - ry) / SIZE[0], (y + ry) / SIZE[0]


LEFT, RIGHT, SMALL = (16, 20, 12, 14), (46, 24, 13, 16), (32, 40, 6, 5)
# By split, image id and thing. Ids begin with the characters that archives go by.
WORLD = {
    "train": {
        "0a00000000000001": [Thing(LEFT), Thing(RIGHT, scale=1)],
        "0b00000000000002": [Thing(LEFT), Thing(RIGHT, scale=0, group=True)],
        "1c00000000000003": [Thing(RIGHT), Thing(SMALL, label=APPLE)],
        "2d00000000000004": [Thing(LEFT, scale=0, group=True)],
        "fe00000000000005": [Thing(RIGHT, scale=4), Thing(SMALL, scale=0)],
        "ff00000000000006": [Thing(LEFT, depiction=True, iou=""), Thing(SMALL, iou="0.41")],
        "a700000000000007": [Thing(SMALL, label=APPLE)],
    },
    "validation": {"0a00000000000011": [Thing(LEFT)], "3b00000000000012": [Thing(RIGHT), Thing(SMALL)]},
    "test": {"4a00000000000021": [Thing(RIGHT)]},
}
IMAGES = {"train": 5, "validation": 2, "test": 1}  # with a usable pumpkin
INSTANCES = {"train": 7, "validation": 3, "test": 1}
CROWDS = {"train": 2, "validation": 0, "test": 0}
OURS = {"train": "train", "validation": "val", "test": "test"}


def mask_name(image_id, number, label):
    return f"{image_id}_{label[1:].replace('/', '')}_{image_id[:2]}{number:06x}.png"


def jpeg(seed, size=SIZE):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def png(mask):
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def table(columns, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def make_files():
    """Every file of the server by its path."""
    files = {
        "/v5/class-descriptions-boxable.csv": f"{APPLE},Apple\n{PUMPKIN},Pumpkin\n/m/03fp41,Houseplant\n".encode(),
        "/v5/classes-segmentation.txt": f"{PUMPKIN}\n{APPLE}\n".encode(),
    }
    for split, images in WORLD.items():
        boxes, masks = [], []
        archives = {character: {"readme.txt": b"padding"} for character in "0123456789abcdef"}
        for seed, (image_id, things) in enumerate(images.items()):
            files[f"/images/{split}/{image_id}.jpg"] = jpeg((len(split), seed))
            for number, thing in enumerate(things):
                box = [f"{edge:.6g}" for edge in thing.box]
                flags = [0, 0, int(thing.group), int(thing.depiction), 0]
                boxes.append(
                    [image_id, "xclick", thing.label, 1, *box, *flags, *["-1"] * (8 if split == "train" else 0)]
                )
                if thing.scale:
                    name = mask_name(image_id, number, thing.label)
                    longer = [f"{edge:.6f}" for edge in thing.box]
                    box_id = name.rsplit("_", 1)[1][:-4]
                    masks.append([name, image_id, thing.label, box_id, *longer, thing.iou, "0.1 0.2 1;0.3 0.4 0"])
                    grown = np.kron(thing.mask, np.ones((thing.scale, thing.scale), bool))
                    archives[image_id[0]][name] = png(grown)
        files[BOXES_CSV[split]] = table(COLUMNS + (CLICKS if split == "train" else []), boxes)
        files[f"/v5/{split}-annotations-object-segmentation.csv"] = table(MASK_COLUMNS, masks)
        for character, members in archives.items():
            files[f"/v5/{split}-masks/{split}-masks-{character}.zip"] = zipped(members)
    return files


@dataclass
class Server:
    """Serves `files`; how badly is set by path.

    drops: the connection closes after that many bytes of every answer. errors: status codes of the first answers;
    later_errors: of all but the first. md5: what the hash header claims instead of the truth.
    flaky: every second answer for a path with this in it ends half-way.
    gate: requests for photos wait for this event once `open_for` of them were answered.
    """

    files: dict[str, bytes]
    drops: dict[str, int] = field(default_factory=dict)
    errors: dict[str, list[int]] = field(default_factory=dict)
    later_errors: dict[str, int] = field(default_factory=dict)
    md5: dict[str, str] = field(default_factory=dict)
    flaky: str | None = None
    ranges: bool = True
    hashes: bool = False
    gate: threading.Event | None = None
    open_for: int = 0
    log: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def asked(self, part):
        return [path for path, _ in self.log if part in path]

    def members(self, path):
        """The files of an archive; write them back with `pack`."""
        with zipfile.ZipFile(io.BytesIO(self.files[path])) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def pack(self, path, members):
        self.files[path] = zipped(members)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_state: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        state, path = self.server_state, self.path
        state.log.append((path, self.headers.get("Range")))
        if state.gate and path.startswith("/images/") and len(state.asked("/images/")) > state.open_for:
            state.gate.wait(30)
        if state.errors.get(path):
            return self._answer(state.errors[path].pop(0), b"", {})
        if path in state.later_errors and len(state.asked(path)) > 1:
            return self._answer(state.later_errors[path], b"", {})
        if path not in state.files:
            return self._answer(404, b"no such key", {})
        content = state.files[path]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if state.hashes:
            md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
            headers["x-goog-hash"] = f"crc32c=AAAAAA==, md5={state.md5.get(path, md5)}"
        wanted = self.headers.get("Range")
        fresh = self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        if wanted and state.ranges and fresh:
            first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()
            start = int(first) if first else max(0, len(content) - int(last))
            end = min(int(last) + 1 if first and last else len(content), len(content))
            if start >= len(content):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            return self._answer(206, content[start:end], headers)
        return self._answer(200, content, headers)

    def _answer(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        limit = self.server_state.drops.get(self.path)
        flaky = self.server_state.flaky
        if flaky is not None and flaky in self.path and len(self.server_state.asked(self.path)) % 2:
            limit = len(content) // 2
        if limit is not None and limit < len(content):
            self.wfile.write(content[:limit])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(content)


@pytest.fixture(scope="session")
def open_images_files():
    return make_files()


@pytest.fixture
def server(open_images_files):
    state = Server(dict(open_images_files))
    handler = type("BoundHandler", (Handler,), {"server_state": state})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def quick(monkeypatch):
    """Retries without waiting."""
    from pumpseg_train.openimages import transfer

    monkeypatch.setattr(transfer, "Transfer", functools.partial(transfer.Transfer, back_off=0.001))


def arguments(server, out, *more):
    line = ["open-images", "--classes", "Pumpkin", "--out", str(out), "--downloader", "https", "--retries", "2"]
    return [*line, "--annotations-url", server.url, "--images-url", f"{server.url}/images/", *more]


@pytest.fixture
def command():
    """Arguments of `pumpseg-data` for a server and a folder, and more."""
    return arguments


def expected(split, image_id, label=PUMPKIN):
    """(crowd, mask) of every annotation of an image under the default rules."""
    wanted = []
    for thing in WORLD[split][image_id]:
        if thing.label != label:
            continue
        mask = thing.mask
        if not thing.scale:
            x1, x2, y1, y2 = (round(edge * side) for edge, side in zip(thing.box, (64, 64, 48, 48), strict=True))
            mask = np.zeros(SIZE, bool)
            mask[y1:y2, x1:x2] = True
        wanted.append((not thing.scale, mask))
    return wanted


def usable(split):
    return [i for i, things in WORLD[split].items() if any(t.label == PUMPKIN and t.scale for t in things)]


def check_split(out, split, image_ids, files, only=None):
    """Everything in a written split is what the server's truth says, to the pixel."""
    folder = Path(out) / OURS[split]
    coco = COCO(str(folder / "annotations.json"))
    assert [category["name"] for category in coco.dataset["categories"]] == ["pumpkin"]
    names = [image["file_name"] for image in coco.dataset["images"]]
    assert names == [f"{image_id}.jpg" for image_id in sorted(image_ids)]
    for image in coco.dataset["images"]:
        image_id = image["file_name"][:-4]
        assert (folder / "images" / image["file_name"]).read_bytes() == files[f"/images/{split}/{image_id}.jpg"]
        assert (image["height"], image["width"]) == SIZE
        got = [(bool(a["iscrowd"]), coco.annToMask(a)) for a in coco.imgToAnns[image["id"]]]
        wanted = expected(split, image_id) if only is None else only[image_id]
        assert len(got) == len(wanted)

        def key(pair):
            return pair[0], pair[1].astype(bool).tobytes()

        assert sorted(map(key, got)) == sorted(map(key, wanted))
        for annotation in coco.imgToAnns[image["id"]]:
            assert annotation["area"] == coco.annToMask(annotation).sum()
    manifest = json.loads((Path(out) / "manifest.json").read_text())["splits"][OURS[split]]
    assert {entry["id"] for entry in manifest["images"]} == set(image_ids)
    for entry in manifest["images"]:
        assert entry["sha256"] == hashlib.sha256(files[f"/images/{split}/{entry['id']}.jpg"]).hexdigest()
    assert not list(Path(out).rglob("*.part"))
    return manifest


@pytest.fixture
def checked():
    """Compares a written split with the truth; see `check_split`."""
    return check_split
