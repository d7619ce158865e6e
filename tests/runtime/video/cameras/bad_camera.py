"""Cameras that misbehave, over HTTP. Run as `python bad_camera.py PORT KIND`.

flood: pictures as fast as they are read. garbage: bytes that are no picture. hang: some pictures, then silence.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
from stamped_pictures import stamped_picture

SECONDS = 0.1
"""How long a flooding camera sends the same picture."""


class Camera(BaseHTTPRequestHandler):
    kind = "flood"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            {"flood": self.flood, "garbage": self.garbage, "hang": self.hang}[self.kind]()
        except OSError:
            return

    def flood(self):
        while True:
            jpeg, end = picture(), time.monotonic() + SECONDS
            while time.monotonic() < end:
                self.send_part(jpeg)

    def garbage(self):
        while True:
            self.send_part(os.urandom(20_000))
            time.sleep(0.02)

    def hang(self):
        for _ in range(20):
            self.send_part(picture())
            time.sleep(0.05)
        time.sleep(3600)

    def send_part(self, body):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body + b"\r\n")

    def log_message(self, *_):
        pass


def picture():
    return cv2.imencode(".jpg", stamped_picture())[1].tobytes()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    Camera.kind = sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    server.daemon_threads = True
    print("listening on", server.server_address[1], flush=True)
    server.serve_forever()
