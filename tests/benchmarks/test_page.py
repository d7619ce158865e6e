import dataclasses
import html.parser
import re
import shutil
import subprocess

import pytest

from pumpseg_bench.page import page


def test_the_page_is_self_contained(bench_report):
    text = page(bench_report)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert "<script" not in text
    assert text.count('src="data:image/svg+xml;base64,') == 3
    open_tags = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(text)
    assert open_tags == []


def test_the_page_renders_in_a_browser(bench_report, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    target, picture = tmp_path / "page.html", tmp_path / "page.png"
    target.write_text(page(bench_report), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1000,1600"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", target.as_uri()]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=180, check=False)
    assert "CONSOLE" not in process.stderr
    assert picture.stat().st_size > 20_000


def test_the_page_has_every_table_and_what_is_wrong(bench_report):
    text = page(bench_report)
    for title in ("Speed (latency in ms)", "Stages of a frame", "What ran", "Operators of fast, cpu", "Not available"):
        assert title in text
    assert '<p class="warning">fast, cuda, 2 threads: has fallen back' in text
    assert "pip install &quot;pumpseg[gpu]&quot;" in text


def test_an_earlier_report_is_on_the_page(bench_report, compared_report):
    text = page(compared_report)
    assert "<h2>Against earlier.json (Some CPU" in text
    assert "<td>0.50</td>" in text
    assert '<p class="warning">earlier.json: measured there only' in text
    assert "Against" not in page(bench_report)


def test_a_page_without_rows(bench_report):
    text = page(dataclasses.replace(bench_report, rows=()))
    assert "<img" not in text
    assert "Speed" not in text
    assert "Not available" in text
