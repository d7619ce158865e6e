"""pumpseg in a Qt window: a thread segments a source, and the window shows the results.

pip install "pumpseg[cpu,video]" PySide6
python qt_viewer.py webcam            # or a video file, or a stream's URL
"""

import sys
import threading

import numpy as np
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QCloseEvent, QImage, QPixmap
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow

from pumpseg import PumpsegError, Segmenter
from pumpseg.video import open_source, stream


class Worker(QObject):
    """Runs a source through the model in a thread; Qt delivers its signals in the window's thread."""

    shown = Signal(QImage, int)
    failed = Signal(str)
    finished = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._stop = threading.Event()
        self._taken = threading.Event()
        self._taken.set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def take(self) -> None:
        """The window has shown the last picture. Until then no other is made, and none is queued."""
        self._taken.set()

    def _run(self) -> None:
        try:
            segmenter = Segmenter(allow_spinning=False)
            for result in stream(open_source(self._name), segmenter.infer, stop=self._stop):
                if self._taken.is_set():
                    self._taken.clear()
                    self.shown.emit(_qt_image(result.annotated), len(result.instances))
        except PumpsegError as error:
            self.failed.emit(str(error))
        self.finished.emit()


class Viewer(QMainWindow):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.setWindowTitle(f"pumpseg: {name}")
        self.resize(800, 600)
        self._picture = QLabel(alignment=Qt.AlignmentFlag.AlignCenter)
        self.setCentralWidget(self._picture)
        self.worker = Worker(name)
        self.worker.shown.connect(self._show)
        self.worker.failed.connect(self.statusBar().showMessage)
        self.worker.start()

    def _show(self, image: QImage, count: int) -> None:
        size = self._picture.size()
        self._picture.setPixmap(QPixmap.fromImage(image).scaled(size, Qt.AspectRatioMode.KeepAspectRatio))
        self.statusBar().showMessage(f"{count} found")
        self.worker.take()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        self.worker.stop()
        event.accept()


def _qt_image(frame: np.ndarray) -> QImage:
    """A copy of a frame, uint8 BGR (H, W, 3), that Qt owns."""
    height, width = frame.shape[:2]
    return QImage(frame.data, width, height, frame.strides[0], QImage.Format.Format_BGR888).copy()


if __name__ == "__main__":
    app = QApplication(sys.argv)
    viewer = Viewer(sys.argv[1] if len(sys.argv) > 1 else "demo")
    viewer.show()
    sys.exit(app.exec())
