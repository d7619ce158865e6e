"""The video loop: sources -> pipeline -> sinks. A newcomer starts with `pipeline.py`.

from pumpseg import Segmenter
from pumpseg.video import open_source, process, stream

for result in stream(open_source("patch.mp4"), Segmenter()):
    print(result.frame.index, result.frame.time, len(result.instances))
"""

from pumpseg.video.camera import Camera
from pumpseg.video.capture import CameraWish
from pumpseg.video.frames import Frame, Source, VideoTiming
from pumpseg.video.images import ImageSource
from pumpseg.video.pipeline import Result, process, stream
from pumpseg.video.sinks import Outputs, Sink, open_sinks
from pumpseg.video.sources import open_source, open_sources
from pumpseg.video.stats import StageTimes, Summary
from pumpseg.video.tracking import Tracker, tracker_of
from pumpseg.video.video_file import VideoSource

__all__ = [
    "Camera",
    "CameraWish",
    "Frame",
    "ImageSource",
    "Outputs",
    "Result",
    "Sink",
    "Source",
    "StageTimes",
    "Summary",
    "Tracker",
    "VideoSource",
    "VideoTiming",
    "open_sinks",
    "open_source",
    "open_sources",
    "process",
    "stream",
    "tracker_of",
]
