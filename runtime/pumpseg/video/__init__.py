"""The video loop: sources -> pipeline -> sinks. A newcomer starts with `pipeline.py`.

from pumpseg import Segmenter
from pumpseg.video import open_source, process, stream

for result in stream(open_source("patch.mp4"), Segmenter()):
    print(result.frame.index, result.frame.time, len(result.instances))
"""

from pumpseg.video.pipeline import Result, process, stream
from pumpseg.video.sinks.open import Outputs, Sink, open_sinks
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import CameraSettings
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_source, open_sources
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
