import socket
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.datastructures import Headers

from pumpseg.video.viewers.page_access import Access, PageAddress, websocket_sources

HERE = PageAddress("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:8000", "::1", 8000),
        ("Cam.local:8000", "cam.local", 8000),
    ],
)
def test_addresses(text, host, port):
    assert PageAddress.parse(text) == PageAddress(host, port)
    assert PageAddress.parse(str(PageAddress(host, port))) == PageAddress(host, port)


@pytest.mark.parametrize(
    "text", ["", "host", ":8000", "[]:8000", "::1:8000", "a:b:80", "65536", "-1", "8000:host", "８０"]
)
def test_wrong_addresses(text):
    with pytest.raises(ValueError, match=r"^must be \[HOST:\]PORT, .* got"):
        PageAddress.parse(text)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_a_token_is_made_up_where_others_can_come(host, local):
    access, again = Access.to(PageAddress(host, 80)), Access.to(PageAddress(host, 80))
    assert (access.token is None) == local
    assert local or (access.token != again.token and len(access.token) >= 20)
    assert Access.to(PageAddress(host, 80), "given").token == "given"


def request(host="127.0.0.1:8000", origin=None):
    return Headers([("Host", host)] + ([("Origin", origin)] if origin else []))


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:9", "[::1]:8000", "127.0.0.9"])
def test_names_of_this_machine_are_let_in(host):
    assert Access.to(HERE).refusal(request(host), "") is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "192.168.0.9", "[::1", "", "[x]:1"],
)
def test_foreign_names_are_refused(host):
    assert "has another host name" in Access.to(HERE).refusal(request(host), "")
    assert "has another host name" in Access.to(HERE).refusal(Headers([("Host", "localhost"), ("Host", host)]), "")
    assert "has another host name" in Access.to(HERE).refusal(Headers(), "")


def test_names_where_others_may_come():
    access = Access.to(PageAddress("cam.local", 8000), "t")
    for host in ("cam.local:8000", "192.168.0.9:8000", f"{socket.gethostname()}.local", "localhost"):
        assert access.refusal(request(host), "token=t") is None
    assert "has another host name" in access.refusal(request("evil.example"), "token=t")


def test_other_sites_are_refused():
    access = Access.to(HERE)
    assert access.refusal(request(origin="http://127.0.0.1:8000"), "") is None
    assert access.refusal(request(origin="https://127.0.0.1:8000"), "") is None
    others = ("http://evil.example", "http://127.0.0.1:9000", "null", "http://localhost:8000", "127.0.0.1:8000")
    for origin in (*others, "chrome-extension://127.0.0.1:8000", "file://127.0.0.1:8000"):
        assert access.refusal(request(origin=origin), "") == "other sites may not use this page"


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=12))
def test_only_the_token_itself_is_a_token(guess):
    access = Access.to(HERE, "s3cret-ü")
    if guess != "s3cret-ü":
        assert "token" in access.refusal(request(), urllib.parse.urlencode({"token": guess}))
    assert "token" in access.refusal(request(), guess.replace("=", ""))
    assert access.refusal(request(), urllib.parse.urlencode({"token": "s3cret-ü"})) is None


def test_the_policy_names_the_websocket():
    assert websocket_sources("cam.local:8000") == "ws://cam.local:8000/live wss://cam.local:8000/live"
    assert websocket_sources("[::1]:8000") == websocket_sources("a;b") == "'self'"
