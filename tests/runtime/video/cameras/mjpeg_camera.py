"""A camera as many IP cameras are: JPEGs without end over HTTP. Run as `python mjpeg_camera.py PORT FPS`."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
from stamped_pictures import stamped_picture


class Camera(BaseHTTPRequestHandler):
    fps = 25.0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due = time.monotonic()
        try:
            while True:
                jpeg = cv2.imencode(".jpg", stamped_picture())[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                # Like a sensor: frames that could not be sent in time are never made.
                due = max(due + 1 / self.fps, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            return

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    cv2.setNumThreads(1)
    Camera.fps = float(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    server.daemon_threads = True
    print("listening on", server.server_address[1], flush=True)
    server.serve_forever()
