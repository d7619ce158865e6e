"""Server programs on loopback, in processes of their own so that they can be killed."""

import socket
import subprocess


class Server:
    """A server program; `stop` kills it, `start` starts it again on the same port."""

    def __init__(self, *command):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command = [str(part).replace("PORT", str(self.port)) for part in command]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("listening")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
