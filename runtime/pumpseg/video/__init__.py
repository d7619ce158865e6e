"""The video loop: source -> pipeline -> sinks and viewer. A newcomer starts with `pipeline.py`.

from pathlib import Path

from pumpseg import Segmenter
from pumpseg.video import Outputs, open_sinks, open_source, process

segmenter = Segmenter(threads=1)
with open_source("patch.mp4") as source, open_sinks(source, Outputs(save=Path("out.mp4"))) as sinks:
    print(process(source, segmenter.infer, sinks, workers=4))
"""

from pumpseg.video.pipeline import process, stream, stream_all
from pumpseg.video.result import Result, Sink, Style, Viewer
from pumpseg.video.sinks.open import Outputs, Sinks, open_sinks
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import CameraSettings
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_source
from pumpseg.video.sources.video_file import VideoSource
from pumpseg.video.stats import StageTimes, Summary
from pumpseg.video.tracking import Tracker, tracker_of

__all__ = [
    "Camera",
    "CameraSettings",
    "Frame",
    "ImageSource",
    "Outputs",
    "Result",
    "Sink",
    "Sinks",
    "Source",
    "StageTimes",
    "Style",
    "Summary",
    "Tracker",
    "VideoSource",
    "VideoTiming",
    "Viewer",
    "open_sinks",
    "open_source",
    "process",
    "stream",
    "stream_all",
    "tracker_of",
]
