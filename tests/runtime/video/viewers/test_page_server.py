"""The server below the pages: answers, and what it refuses. test_live_page.py has the WebSocket."""

from http import HTTPStatus

import pytest
from page_client import fetch

from pumpseg.errors import PumpsegError
from pumpseg.video.viewers.page_access import Access, PageAddress
from pumpseg.video.viewers.page_server import Answer, PageServer

HERE = PageAddress("127.0.0.1", 0)


def answer(path, query):
    if path == "/bad":
        raise ValueError("a fault in the program")
    answers = {
        "/": Answer(b"<p>page"),
        "/picture.jpg": Answer(b"\xff\xd8\x00\n", "image/jpeg", headers={"Cache-Control": "max-age=9"}),
        "/query": Answer.text(query, HTTPStatus.SERVICE_UNAVAILABLE),
    }
    return answers.get(path)


@pytest.fixture
def server():
    server = PageServer(HERE, Access.to(HERE, "secret-token"), answer)
    yield server
    server.close()


def test_answers_arrive_as_they_are(server):
    base = server.url.partition("?")[0]
    status, body, headers = fetch(server.url)
    assert (status, body, headers["Content-Type"]) == (200, "<p>page", "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert fetch(f"{base}query?token=secret-token&a=1")[:2] == (503, "token=secret-token&a=1\n")
    assert fetch(f"{base}other?token=secret-token")[0] == 404


def test_bytes_and_headers_of_an_answer(server):
    import urllib.request

    with urllib.request.urlopen(server.url.replace("/?", "/picture.jpg?"), timeout=20) as reply:
        assert reply.read() == b"\xff\xd8\x00\n"
        assert (reply.headers["Content-Type"], reply.headers["Cache-Control"]) == ("image/jpeg", "max-age=9")


def test_every_path_needs_the_token_this_host_and_this_site(server):
    base = server.url.partition("?")[0]
    for path in ("", "picture.jpg", "live", "bad"):
        assert fetch(f"{base}{path}")[0] == 403
        assert fetch(f"{base}{path}?token=secret-token", Host="evil.example")[0] == 403
        assert fetch(f"{base}{path}?token=secret-token", Origin="https://evil.example")[0] == 403


def test_a_fault_is_logged_and_the_server_goes_on(server, caplog):
    assert fetch(server.url.replace("/?", "/bad?"))[0] == 500
    assert "a fault in the program" in caplog.text
    assert fetch(server.url)[0] == 200


def test_an_address_in_use_is_named(server):
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(PumpsegError, match=f"cannot serve the page on 127.0.0.1:{port}: Address already in use"):
        PageServer(PageAddress("127.0.0.1", port), Access.to(HERE), answer)
    server.close()
    server.close()
