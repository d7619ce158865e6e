import contextlib
import logging
import signal
import threading

import cv2
import numpy as np
import pytest

from pumpseg.cli.process import handle_signals, log_lines, stop_then_interrupt


def test_the_first_signal_stops_and_the_second_interrupts():
    stop = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), handle_signals(stop_then_interrupt(stop)):
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone():
    handlers = []

    def work():
        with handle_signals(stop_then_interrupt(threading.Event())):
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals(stop_then_interrupt(threading.Event())):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_log_lines_begin_with_the_program(capsys):
    logger = logging.getLogger("pumpseg")
    with log_lines("pumpseg-x"):
        logger.info("provider cpu")
    logger.info("not shown")
    assert capsys.readouterr().err == "pumpseg-x: provider cpu\n"


def test_opencv_prints_nothing_of_its_own(capfd):
    """It logs about damaged animations, and raises an error as well."""
    damaged = np.frombuffer(b"RIFF\x20\0\0\0WEBPVP8X" + bytes(40), np.uint8)
    level = cv2.utils.logging.getLogLevel()
    with log_lines("pumpseg-x"), contextlib.suppress(cv2.error):
        cv2.imdecodeanimation(damaged)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
