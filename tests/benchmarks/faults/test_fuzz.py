"""A moment of benchmarks/faults/fuzz.py: every parser refuses damaged texts with an error that is one line."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PARSERS = [
    *(
        "arguments",
        "url",
        "rle",
        "rule",
        "metadata",
        "manifest",
        "coco-truth",
        "coco",
        "coco-convert",
        "via",
        "labelme",
    ),
    *("yolo", "yolo-yaml", "classes", "tables", "watch"),
]


@pytest.fixture(scope="module")
def fuzz(load_script):
    return load_script("fuzz")


def test_every_parser_is_listed(fuzz):
    assert set(PARSERS) == fuzz.PARSERS.keys() - set(fuzz.NEED_KERAS)


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_texts_are_refused(fuzz, name):
    known, parser = fuzz.seeds(name), fuzz.PARSERS[name]
    for text in known:
        parser.check(text)

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False), st.binary(max_size=40))
    def check(rng, raw):
        parser.check(fuzz.damaged(known, rng))
        parser.check(raw)

    check()


DEEP, ENDLESS = b"[" * 100_000, b"Infinity"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest", DEEP + b"\n"),
        ("manifest", b'{"input": "/a", "size": Infinity, "sha256": ""}\n'),
        ("coco-truth", b'{"images": [], "categories": [{"name": "x", "id": Infinity}]}'),
        ("coco-truth", DEEP),
        ("rule", b'{"placement": "centred", "min_scale": Infinity}'),
        ("rule", b'{"placement": "centred", "min_side": 800, "min_scale": NaN}'),
        *((name, DEEP) for name in ("coco", "coco-convert", "via", "labelme", "yolo-yaml", "watch")),
        *((name, ENDLESS) for name in ("coco", "coco-convert", "via", "labelme", "yolo-yaml", "metadata")),
    ],
)
def test_what_was_found(fuzz, name, text):
    fuzz.PARSERS[name].check(text)


def test_a_fault_is_found(fuzz, monkeypatch, capsys):
    monkeypatch.setitem(fuzz.PARSERS, "classes", fuzz.Parser(lambda data, folder: data.decode("ascii")))
    assert fuzz.main(["--only", "classes", "--seconds", "5"]) == 1
    assert "UnicodeDecodeError" in capsys.readouterr().out
