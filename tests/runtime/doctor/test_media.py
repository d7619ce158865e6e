import numpy as np
import pytest

from pumpseg.doctor import media
from pumpseg.doctor.finding import FAULT, NOTE, OK
from pumpseg.errors import MissingPackageError, SourceError
from pumpseg.video.sinks import video
from pumpseg.video.sources import capture, container


def test_each_codec_goes_out_and_in():
    found = {finding.topic: finding for finding in media.try_codecs()}
    assert {topic: finding.status for topic, finding in found.items()} == {"video": OK, "h264": OK, "av1": OK}
    assert "libx264" in found["h264"].text


def test_a_missing_codec_is_a_fault(monkeypatch):
    codecs = dict(video.CODECS)
    codecs["h264"] = type(codecs["h264"])("libx264_of_another_build")
    monkeypatch.setattr(video, "CODECS", codecs)
    found = {finding.topic: finding for finding in media.try_codecs()}
    assert (found["h264"].status, found["av1"].status) == (FAULT, OK)
    assert found["h264"].text.startswith("cannot be written: libx264_of_another_build")
    assert found["h264"].mend.startswith("pip install --force-reinstall --no-deps av==")


def test_without_pyav_is_a_note_with_the_line_that_brings_it(monkeypatch):
    def missing():
        raise MissingPackageError('av cannot be imported (No module): pip install "pumpseg[video]"', name="av")

    monkeypatch.setattr(container, "import_av", missing)
    (found,) = media.try_codecs()
    assert (found.status, found.mend) == (NOTE, 'pip install "pumpseg[video]"')


def test_the_screen_is_there_or_not(monkeypatch):
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    (found,) = media.check_screen()
    assert found.status in (OK, NOTE)
    assert found.status == OK or "--serve" in found.mend


def test_without_cameras_the_doctor_says_so(monkeypatch):
    monkeypatch.setattr(media, "isolated", lambda *_, **__: [])
    (found,) = media.check_cameras()
    assert (found.status, found.text) == (NOTE, "none")


@pytest.fixture
def camera(monkeypatch):
    """A camera that grants up to 1280x720, as far as `DeviceCapture` shows it."""

    class Camera:
        working = True

        def __init__(self, device, settings):
            width, height = min(settings.size or (640, 480), (1280, 720))
            self.negotiated = f"{width}x{height} at 30 fps, MJPG"
            if settings.size not in (None, (width, height)):
                self.negotiated += ", not all that was requested"

        def read(self):
            if not self.working:
                raise SourceError("it stopped delivering frames")
            return np.zeros((4, 4, 3), np.uint8), 0.0

        def close(self):
            pass

    monkeypatch.setattr(capture, "DeviceCapture", Camera)
    monkeypatch.setattr(media.os, "access", lambda *_: True)
    return Camera


def test_a_camera_is_shown_with_the_modes_that_it_grants(camera):
    (found,) = media.try_camera("/dev/video7")
    assert (found.topic, found.status) == ("/dev/video7", OK)
    assert found.text == "640x480 at 30 fps, MJPG; 1280x720 at 30 fps, MJPG"


def test_a_camera_without_a_picture_is_a_fault(camera):
    camera.working = False
    (found,) = media.try_camera("/dev/video7")
    assert found.status == FAULT
    assert "delivers no picture" in found.text


def test_a_camera_that_this_user_may_not_open_is_a_fault_with_the_line_that_mends_it(monkeypatch):
    monkeypatch.setattr(media.os, "access", lambda *_: False)
    (found,) = media.try_camera("/dev/video7")
    assert (found.status, found.mend) == (FAULT, "sudo usermod -aG video $USER    # then log in again")


def test_a_camera_that_another_program_uses_is_a_note(monkeypatch):
    monkeypatch.setattr(media.os, "access", lambda *_: True)
    (found,) = media.try_camera("/dev/video97")
    assert found.status == NOTE
    assert "another program uses it" in found.text
    assert media.try_camera("97") == []
