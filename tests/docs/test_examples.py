"""The programs of docs/examples, run as a reader would."""

import ast
import base64
import contextlib
import functools
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.inference.letterbox import letterbox
from pumpseg.inference.model_file import find_model
from pumpseg.masks.paste import paste_crop
from pumpseg.video import open_source

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ORT_JS = "1.30.0"

as_on_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenCV's resize may round otherwise on other processors"
)


@pytest.fixture(scope="module")
def frame():
    return next(iter(open_source("demo"))).image


@pytest.fixture
def example():
    """Imports an example by its name."""

    def imported(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


def test_the_web_service_answers_with_coco_results(example, frame, monkeypatch):
    def too_many_pixels(*_):
        raise cv2.error("more pixels than OpenCV decodes")

    testclient = pytest.importorskip("fastapi.testclient", reason="needs pip install fastapi httpx")
    service = example("fastapi_service")
    with testclient.TestClient(service.app) as client:
        answer = client.post("/segment", content=cv2.imencode(".png", frame)[1].tobytes())
        sure = client.post("/segment?threshold=0.95", content=cv2.imencode(".png", frame)[1].tobytes())
        everything = client.post("/segment?threshold=0.2", content=cv2.imencode(".png", frame)[1].tobytes())
        out_of_range = [client.post(f"/segment?threshold={threshold}").status_code for threshold in ("0", "1.1", "nan")]
        monkeypatch.setattr(service.cv2, "imdecode", too_many_pixels)
        undecodable = client.post("/segment", content=b"x").status_code
        monkeypatch.undo()
        refused = [client.post("/segment", content=body).status_code for body in (b"text", b"")]
        service.MAX_BYTES = 10
        too_large = client.post("/segment", content=b"x" * 11).status_code
    wanted = service.segmenter(frame)
    assert len(wanted) > 0
    assert everything.json() == [{"class": "pumpkin", **result} for result in wanted.to_coco()]
    assert len(answer.json()) == np.count_nonzero(wanted.scores >= 0.5)
    assert (out_of_range, undecodable) == ([422, 422, 422], 415)
    assert len(sure.json()) == np.count_nonzero(wanted.scores >= 0.95) < len(wanted)
    assert (refused, too_large) == ([415, 415], 413)


def test_the_qt_viewer_shows_pictures_and_closes():
    pytest.importorskip("PySide6", reason="needs pip install PySide6")
    program = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from PySide6.QtWidgets import QApplication
from qt_viewer import Viewer
app = QApplication([])
viewer = Viewer("demo")
viewer.show()
viewer.worker.finished.connect(app.quit)
app.exec()
assert not viewer._picture.pixmap().isNull()
assert viewer.statusBar().currentMessage().endswith(" found")
viewer.close()
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cpp_flags():
    if shutil.which("g++") and shutil.which("pkg-config"):
        command = ["pkg-config", "--cflags", "--libs", "opencv4", "libonnxruntime"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return asked.stdout.split()
    pytest.skip("needs g++, pkg-config, libopencv-dev and libonnxruntime-dev")


@as_on_x86
def test_the_cpp_program_prints_the_boxes_of_python(cpp_flags, frame, tmp_path):
    program = tmp_path / "segment"
    source = str(EXAMPLES / "segment.cpp")
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Werror", source, "-o", str(program), *cpp_flags], check=True)
    segmenter = Segmenter("fast-fp32", provider="cpu", threads=1, threshold=0.5)  # the default of the example
    for size in ((640, 480), (1203, 901)):
        picture = cv2.resize(frame, size)
        cv2.imwrite(str(tmp_path / "photo.png"), picture)
        command = [program, str(find_model("fast")), str(tmp_path / "photo.png")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found = np.array([[float(value) for value in line.split()] for line in done.stdout.splitlines()])
        wanted = segmenter(picture)
        assert len(wanted) == len(found) > 0
        np.testing.assert_allclose(found[:, 2:], wanted.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found[:, 1], wanted.scores, rtol=0, atol=1e-4)


def test_the_ros_node_uses_what_there_is():
    """ROS 2 cannot be had from PyPI; what the node imports from pumpseg must at least be there."""
    tree = ast.parse((EXAMPLES / "ros2_node.py").read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "pumpseg" in node.module]
    assert imported
    for node in imported:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """The JavaScript examples with the packages that they need next to them."""
    if shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    for path in EXAMPLES.glob("*.mjs"):
        shutil.copy(path, folder)
    # Its install script fetches GPU libraries; those for the CPU are in the package.
    packages = [f"onnxruntime-node@{ORT_JS}", f"onnxruntime-web@{ORT_JS}"]
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def javascript_boxes(folder, program, frame):
    cv2.imwrite(str(folder / "photo.ppm"), frame)
    command = ["node", program, str(find_model("fast")), "photo.ppm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return np.array([one["box"] for one in found]), np.array([one["score"] for one in found])


@pytest.mark.npm
@as_on_x86
@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_javascript_prints_the_boxes_of_python(node_folder, frame, package):
    source = (node_folder / "segment.mjs").read_text(encoding="utf-8")
    if package == "onnxruntime-web":
        # Node has no server to fetch the model from: the same program, the file's bytes in place of its name.
        source = source.replace("onnxruntime-node", package).replace("create(model)", "create(readFileSync(model))")
    (node_folder / f"{package}.mjs").write_text(source, encoding="utf-8")
    segmenter = Segmenter("fast-fp32", provider="cpu", threads=1, threshold=0.5)  # the default of the example
    for size in ((384, 288), (640, 480), (646, 363), (1280, 720)):
        picture = cv2.resize(frame, size)
        wanted = segmenter(picture)
        boxes, scores = javascript_boxes(node_folder, f"{package}.mjs", picture)
        assert len(wanted) == len(boxes) > 0
        np.testing.assert_allclose(boxes, wanted.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(scores, wanted.scores, rtol=0, atol=1e-4)


@pytest.mark.npm
@as_on_x86
def test_javascript_makes_the_input_of_python_to_the_byte(node_folder):
    program = """
import { readFileSync, writeFileSync } from "node:fs";
import { letterbox } from "./pumpseg.mjs";
const [width, height] = process.argv.slice(2).map(Number);
writeFileSync("input.raw", letterbox(readFileSync("frame.raw"), width, height, 384, 384).image);
"""
    (node_folder / "letterbox.mjs").write_text(program, encoding="utf-8")
    sizes = [(640, 480), (1280, 720), (1920, 1080), (646, 363), (577, 768), (100, 71)]
    odd_and_halved = [(1024, 683), (1203, 901), (2603, 1951)]
    for width, height in sizes + odd_and_halved:
        frame = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        frame.tofile(node_folder / "frame.raw")
        command = ["node", "letterbox.mjs", str(width), str(height)]
        subprocess.run(command, cwd=node_folder, check=True, timeout=60)
        made = np.fromfile(node_folder / "input.raw", np.uint8).reshape(384, 384, 3)
        np.testing.assert_array_equal(made, letterbox(frame, (384, 384))[0], err_msg=f"{width}x{height}")


@pytest.mark.npm
def test_javascript_makes_the_masks_of_python(node_folder, frame):
    program = """
import { readFileSync } from "node:fs";
import { maskPixels } from "./pumpseg.mjs";
const { instances, width, height } = JSON.parse(readFileSync("cells.json", "utf8"));
for (const instance of instances) {
  const { inside, ...place } = maskPixels(instance, width, height);
  console.log(JSON.stringify({ ...place, inside: Array.from(inside) }));
}
"""
    (node_folder / "masks.mjs").write_text(program, encoding="utf-8")
    height, width = frame.shape[:2]
    random = np.random.default_rng(1)
    boxes = np.array([[10.2, 20.7, 90.4, 77.1], [600, 440, 700.5, 500], [300.6, 50, 300.9, 90], [650, 10, 660, 20]])
    masks = cv2.blur(random.random((28, 28, 4)), (5, 5)).transpose(2, 0, 1).astype(np.float32)
    instances = [{"mask": m.ravel().tolist(), "maskBox": b.tolist()} for m, b in zip(masks, boxes, strict=True)]
    cells = json.dumps({"instances": instances, "width": width, "height": height})
    (node_folder / "cells.json").write_text(cells, encoding="utf-8")
    done = subprocess.run(
        ["node", "masks.mjs"], cwd=node_folder, capture_output=True, text=True, timeout=60, check=True
    )
    for line, mask, box in zip(done.stdout.splitlines(), masks, boxes, strict=True):
        found, wanted = json.loads(line), paste_crop(mask, box, (height, width))
        inside = np.array(found["inside"], bool).reshape(found["height"], found["width"])
        assert inside.shape == wanted.mask.shape
        assert not inside.size or (found["x"], found["y"]) == (wanted.x, wanted.y)
        assert np.count_nonzero(inside != wanted.mask) <= 0.01 * inside.size  # ties, and OpenCV 4's rounded positions


@pytest.mark.npm
def test_the_browser_page_draws_masks(node_folder, frame, tmp_path):
    chromium_tab = pytest.importorskip("chromium_tab", reason="needs pip install websockets")
    if chromium_tab.CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    shutil.copy(EXAMPLES / "browser.html", node_folder)
    shutil.copy(find_model("fast"), node_folder / "fast.onnx")
    cv2.imwrite(str(tmp_path / "photo.png"), frame)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=node_folder)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        contextlib.closing(chromium_tab.ChromiumTab(tmp_path / "profile")) as tab,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/browser.html")
        tab.until("document.readyState === 'complete' && document.querySelector('input') !== null")
        chooser = tab("Runtime.evaluate", expression="document.querySelector('input')")["result"]["objectId"]
        tab("DOM.setFileInputFiles", files=[str(tmp_path / "photo.png")], objectId=chooser)
        tab.until("document.querySelector('p').textContent.includes('found in')")
        shown = tab.run("document.querySelector('canvas').toDataURL()").partition(",")[2]
        tab.picture(tmp_path / "page.png", 700, 700)
        server.shutdown()
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(shown), np.uint8), cv2.IMREAD_COLOR)
    changed = (drawn != frame).any(axis=2)
    masks = Segmenter("fast-fp32", provider="cpu").predict(frame).masks
    assert len(masks) > 0
    for mask in masks:
        assert changed[mask].mean() > 0.98
    # Outlines and labels are drawn as well, but whole boxes are not tinted.
    assert changed[~masks.any(axis=0)].mean() < 0.05


@pytest.mark.npm
def test_javascript_reports_a_wrong_picture_in_one_line(node_folder):
    (node_folder / "photo.txt").write_text("text", encoding="utf-8")
    command = ["node", "segment.mjs", str(find_model("fast")), "photo.txt"]
    done = subprocess.run(command, cwd=node_folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
