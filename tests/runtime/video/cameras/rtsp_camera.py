"""An RTSP camera: H.264 over RTP, interleaved in the TCP connection (RFC 2326, section 10.12; RFC 6184).

Run as `python rtsp_camera.py PORT FPS`. libav makes the RTP packets.
"""

import socketserver
import sys
import threading
import time
from fractions import Fraction

import av
from stamped_pictures import SIZE, stamped_picture

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)


class InterleavedPackets:
    """A file to libav's rtp muxer: each write is one packet, which goes out behind its channel and length."""

    def __init__(self, send):
        self._send = send

    def write(self, packet):
        channel = 1 if 200 <= packet[1] <= 204 else 0  # RTCP (RFC 3550, section 6)
        self._send(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + bytes(packet))
        return len(packet)


class Session(socketserver.StreamRequestHandler):
    fps = 25.0

    def setup(self):
        super().setup()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def handle(self):
        try:
            while True:
                first = self.rfile.read(1)
                if not first:
                    return
                if first == b"$":  # reports of the receiver
                    self.rfile.read(int.from_bytes(self.rfile.read(3)[1:], "big"))
                    continue
                lines = [(first + self.rfile.readline()).decode().strip()]
                while line := self.rfile.readline().decode().strip():
                    lines.append(line)
                self.answer(lines[0].split()[0], dict(line.split(": ", 1) for line in lines[1:]))
        except OSError:
            return
        finally:
            self._over.set()

    def answer(self, method, headers):
        reply, body = [f"CSeq: {headers['CSeq']}", "Session: 1"], ""
        if method == "OPTIONS":
            reply.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            reply += ["Content-Type: application/sdp", f"Content-Length: {len(SDP)}"]
            body = SDP
        elif method == "SETUP":
            reply.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        self.send("\r\n".join(["RTSP/1.0 200 OK", *reply, "", body]).encode())
        if method == "PLAY":
            threading.Thread(target=self.play, daemon=True).start()

    def send(self, data):
        with self._lock:
            self.wfile.write(data)

    def play(self):
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "crf": "18"}
        container = av.open(InterleavedPackets(self.send), "w", format="rtp", buffer_size=1400)
        video = container.add_stream("libx264", rate=Fraction(self.fps), options=options)
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90000)
        video.codec_context.thread_count = 1
        start = due = time.monotonic()
        try:
            while not self._over.is_set():
                picture = av.VideoFrame.from_ndarray(stamped_picture(), format="bgr24")
                picture.pts = round((time.monotonic() - start) * 90000)
                picture.time_base = Fraction(1, 90000)
                for packet in video.encode(picture):
                    container.mux(packet)
                due = max(due + 1 / self.fps, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            return


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    Session.fps = float(sys.argv[2])
    with Server(("127.0.0.1", int(sys.argv[1])), Session) as server:
        print("listening on", server.server_address[1], flush=True)
        server.serve_forever()
