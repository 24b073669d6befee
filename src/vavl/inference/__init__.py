"""From a clip to a prediction."""

from vavl.data.speakers import SpeakerProfile
from vavl.inference.clip_prediction import ClipPrediction
from vavl.inference.files import ClipFiles, find_files, group_files
from vavl.inference.loading import load
from vavl.inference.many import BatchReport, predict_many
from vavl.inference.recognizer import Recognizer

__all__ = [
    "BatchReport",
    "ClipFiles",
    "ClipPrediction",
    "Recognizer",
    "SpeakerProfile",
    "find_files",
    "group_files",
    "load",
    "predict_many",
]
