import pytest

from pumpseg.redaction import redacted, redacted_text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam/stream", "rtsp://cam/stream"),
        ("http://cam:8080", "http://cam:8080"),
        ("http://cam/a/b/clip.mp4?x=1#t", "http://cam/.../clip.mp4"),
        ("rtsp://[fe80::1%25eth0]:554/ch0/", "rtsp://[fe80::1%25eth0]:554/.../"),
        ("rtsp://user:p@ss:word@cam:554/stream", "rtsp://cam:554/stream"),
        ("http://token@cam/a", "http://cam/a"),
        ("rtsp://admin:se/cret@cam/1", "rtsp://***"),
        ("rtsp://admin:se#cret@cam/1", "rtsp://***"),
        ("http://cam/v.cgi?loginuse=me&loginpas=secret", "http://cam/v.cgi"),
        ("rtsp://cam/user=admin_password=secret_channel=1_stream=0.sdp?real_stream", "rtsp://cam/***"),
        ("rtsp://cam/user%3Dadmin_password%3Dsecret.sdp", "rtsp://cam/***"),
        ("http://cam/live;pwd=secret", "http://cam/live"),
        ("http://cam/secret/stream.m3u8?jwt=secret", "http://cam/.../stream.m3u8"),
        ("http://cam/stream#token=secret", "http://cam/stream"),
        ("ftp://me:secret@host/a.mp4", "ftp://host/a.mp4"),
        ("http://", "http://***"),
        ("file:///clips/a.mp4", "file:///clips/a.mp4"),
        ("photos/a=b@c.jpg", "photos/a=b@c.jpg"),
    ],
)
def test_no_secret_is_shown(url, shown):
    assert redacted(url) == shown
    assert "secret" not in redacted(url)


def test_urls_in_a_text_are_shown_without_secrets():
    error = "Failed to parse: 'http://me:secret@cam/a/b?token=secret', tried rtsp://secret@cam/1"
    assert redacted_text(error) == "Failed to parse: 'http://cam/.../b', tried rtsp://cam/1"
    assert redacted_text("no such file: http:/me:secret@cam/b.mp4") == "no such file: http:/***@cam/b.mp4"
    assert redacted_text("no URL: a//b") == "no URL: a//b"
