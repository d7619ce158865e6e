"""What a program that ends leaves behind in libav."""

import subprocess
import sys

import pytest

pytest.importorskip("av", reason='needs pip install "pumpseg[video]"')

# Its camera sends three pictures and then nothing more, with the connection open.
PROGRAM = """
import atexit, socket, sys, threading, time
import cv2, numpy as np

names = lambda: [thread.name for thread in threading.enumerate() if thread.name.startswith("pumpseg")]
atexit.register(lambda: print("at the end:", names()))  # before ours, so that it runs after ours

picture = cv2.imencode(".jpg", np.zeros((96, 128, 3), np.uint8))[1].tobytes()
server = socket.create_server(("127.0.0.1", 0))

def serve():
    connection, _ = server.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Type: multipart/x-mixed-replace; boundary=f\\r\\n\\r\\n")
    head = b"--f\\r\\nContent-Type: image/jpeg\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(picture)
    connection.sendall(3 * (head + picture + b"\\r\\n"))
    threading.Event().wait()

threading.Thread(target=serve, daemon=True).start()

from pumpseg.video.sources.open import open_source

camera = open_source(f"http://127.0.0.1:{server.getsockname()[1]}/camera")
next(iter(camera))
time.sleep(0.5)
if sys.argv[1] == "closed":
    camera.close()
print("before:", names())
"""


@pytest.mark.parametrize("camera", ["closed", "open"])
def test_nothing_waits_for_a_camera_that_hangs(camera):
    """A thread that waits in libav asks Python for the time, which is a segmentation fault after Python's end."""
    command = [sys.executable, "-c", PROGRAM, camera]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["before: ['pumpseg-camera']", "at the end: []"]
    assert done.returncode == 0
