"""A webhook's receiver that misbehaves as told."""

import socketserver
import threading


class Receiver:
    """Answers each POST with the next of `answers`, then with 200.

    An answer is a status, a status with headers, bytes to send as they are, "hang" or "drip".
    requests: (headers with small names, body, answer) of all so far. acknowledged: ids that got a 2xx.
    """

    def __init__(self, port=0):
        self.answers, self.requests, self.acknowledged = [], [], []
        self.ended = threading.Event()
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                receiver.answer(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook/s3cret?key=s3cret"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, rfile, wfile):
        line = rfile.readline().decode()
        headers = {"": line.strip()}
        while header := rfile.readline().decode().strip():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = rfile.read(int(headers.get("content-length", 0)))
        answer = self.answers.pop(0) if self.answers else 200
        self.requests.append((headers, body, answer))
        if answer == "hang":
            self.ended.wait(30)
        elif answer == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"." * 300:
                try:
                    wfile.write(bytes([byte]))
                except OSError:
                    return
                if self.ended.wait(0.05):
                    return
        elif isinstance(answer, bytes):
            wfile.write(answer)
        else:
            status, more = answer if isinstance(answer, tuple) else (answer, {})
            if 200 <= status < 300:
                self.acknowledged.append(headers["webhook-id"])
            text = "".join(f"{name}: {value}\r\n" for name, value in more.items())
            wfile.write(f"HTTP/1.1 {status} Whatever\r\n{text}Content-Length: 0\r\n\r\n".encode())

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _, _ in self.requests]

    def close(self):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
