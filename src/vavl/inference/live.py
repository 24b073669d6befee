"""Predictions while sound and picture come in: what a file gives, as early as it can be known."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError
from vavl.features.face_features import FINEST_SIDE
from vavl.inference.arguments import check_samples
from vavl.inference.people import face_box
from vavl.inference.recognizer import Recognizer
from vavl.inference.sources import Event, LiveSource
from vavl.inference.windows import HOP_S, WINDOW_S, Window, WindowCutter
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.container import LONGEST_GAP_S, is_finite
from vavl.media.frames import CLOSE_S, VideoFrame, shrunk
from vavl.types import FaceBox, Modality, TimedPrediction

_MOST_LAG_S = 60.0
"""Sound and picture may be this far apart: memory keeps the one that is ahead."""
_LATE_S = 2.0
"""Windows that come later than this are worth a note, and again when it has doubled."""
_USUAL_FRAME_S = 1 / 25
"""How long a frame is on show where there is no other to tell."""

_log = logging.getLogger(__name__)


class LiveRecognizer:
    """Predicts windows of sound and picture as soon as they are complete.

    Windows are those of the timeline of a file: 2 s, one every 0.5 s. Given the same sound and
    frames, the predictions are the same too as with ``people="main"``: the most prominent person is
    followed. They differ at the end of the picture: a file may say how long its last frame is
    shown; here it is shown as long as the one before it.

    Where both sound and picture are announced, a window is complete when both have reached its end.

    With ``adapt``, the person in front is got to know on the way, without labels. Each window is
    predicted with what is known from before; then, if it has sound or a face to go by and does not
    overlap the last one that was taken, it is added to the profile, as a clip is by
    :meth:`vavl.Recognizer.adapt`. All count alike: for another person begin another stream.

    Args:
        recognizer: Model and extractors.
        audio: Whether there will be sound.
        video: Whether there will be a picture.
        speaker: As in :meth:`vavl.Recognizer.predict`; with ``adapt``, what is known at first.
        adapt: Whether to get to know the person; memory holds a profile, however long it goes on.

    Attributes:
        profile: What is known of the person by now; None for a stranger without ``adapt``.
        face: Where the face is in the last picture that is settled; None where there is none.

    Raises:
        InputError: Neither sound nor picture, one that the model cannot take, or a speaker who is
            not known to this model.

    Example:
        >>> import vavl
        >>> live = LiveRecognizer(vavl.load(), audio=True, video=False)
        >>> second = np.zeros(16_000, np.float32)
        >>> [len(live.add_audio(second)) for _ in range(4)]
        [0, 0, 2, 2]
        >>> len(live.finish())  # speech is settled 0.26 s after it came in
        1
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        audio: bool,
        video: bool,
        speaker: str | SpeakerProfile | None = None,
        adapt: bool = False,
    ) -> None:
        if not audio and not video:
            raise InputError("audio, video: expected sound, a picture or both, got neither")
        self._recognizer = recognizer
        self.profile = None if speaker is None else recognizer.profile_of(speaker)
        if adapt and self.profile is None:
            self.profile = SpeakerProfile("the person in front")
        self._adapt = adapt
        self.face: FaceBox | None = None
        self._known_s = 0.0  # end of the last window that was added to the profile
        self._audio, self._video = audio, video
        self._cutter = WindowCutter(WINDOW_S, HOP_S, audio=audio, video=video)
        self._latency_s = self._step_s = 0.0
        if audio:
            recognizer.reader.require(Modality.ACOUSTIC)
            self._listener = recognizer.reader.listener()
            self._latency_s = self._listener.latency_s
        if video:
            extractor = recognizer.reader.visual_extractor
            self._stream = extractor.stream("found")
            self._sampler = _Sampler(extractor.rate_hz)
            self._step_s = 1 / extractor.rate_hz
            faces_s = self._stream.latency_frames * self._step_s
            self._latency_s = max(self._latency_s, faces_s)

    @property
    def latency_s(self) -> float:
        """The longest time in seconds from the end of a window to its prediction.

        It is the look-ahead of the face tracker, which settles a face with the next frame that the
        detector sees, or that of the voice activity where the model hears nothing but speech,
        whichever is longer; 0 without both. Three delays are not in it: the time to compute, the
        source's block of sound, and the time until its next frame, which ends the one on show.
        """
        return self._latency_s

    def add_audio(self, samples: NDArray[np.float32]) -> list[TimedPrediction]:
        """Takes the next sound; returns predictions of the windows that are complete now.

        Args:
            samples: ``(N,)`` at 16 kHz, full scale [-1, 1]; the first one ever is at 0 s.

        Raises:
            InputError: No sound is expected, it has another shape, or is 60 s ahead of the picture.
        """
        self._check_open("audio", self._cutter.audio_open)
        check_samples("samples", samples)
        heard = self._listener.add(samples.astype(np.float32, copy=False))
        return self._predicted(self._cutter.add_audio(heard))

    def add_frame(self, frame: VideoFrame) -> list[TimedPrediction]:
        """Takes the next frame; returns predictions of the windows that are complete now.

        Args:
            frame: On the clock of the sound, later than the one before; at any rate. All frames
                have one shape.

        Raises:
            InputError: No picture was announced, it has ended, the frame is not later than the
                one before or not RGB, or it is 60 s ahead of the sound.
        """
        self._check_open("video", self._cutter.video_open)
        return self._seen(self._sampler.add(frame))

    def end_audio(self) -> list[TimedPrediction]:
        """The sound ends, the picture may go on; returns what is known now."""
        if not self._cutter.audio_open:
            return []
        last = self._cutter.add_audio(self._listener.finish())
        return self._predicted([*last, *self._cutter.end_audio()])

    def end_video(self) -> list[TimedPrediction]:
        """The picture ends, the sound may go on; returns what is known now."""
        if not self._cutter.video_open:
            return []
        predictions = self._seen(self._sampler.finish())
        last = self._cutter.add_steps(self._stream.finish(), self._step_s)
        return predictions + self._predicted([*last, *self._cutter.end_video()])

    def finish(self) -> list[TimedPrediction]:
        """All ends; returns the rest, the last window ending with the stream."""
        predictions = self.end_video() + self.end_audio()
        return predictions + self._predicted(self._cutter.finish())

    def follow(self, events: Iterable[Event]) -> Iterator[tuple[TimedPrediction, float]]:
        """Takes a source until it ends; what was not announced passes by.

        Yields each prediction with its latency in seconds, from the end of its window until now.
        The event that came in with the least delay sets the clock, so that a camera's own delay is
        not in it.
        """
        began_s, total = math.inf, 0
        for event in chain(events, [None]):
            arrived_s = time.monotonic()
            predictions: list[TimedPrediction] = []
            if event is None:
                predictions = self.finish()
            elif event[0] == "audio" and self._audio:
                if event[1] is None:
                    predictions = self.end_audio()
                else:
                    total += len(event[1])
                    began_s = min(began_s, arrived_s - total / SAMPLING_RATE_HZ)
                    predictions = self.add_audio(event[1])
            elif event[0] == "frame" and self._video:
                if event[1] is None:
                    predictions = self.end_video()
                else:
                    began_s = min(began_s, arrived_s - event[1].time_s)
                    predictions = self.add_frame(event[1])
            for prediction in predictions:
                # The last window may end in the future: a frame comes when it is first shown.
                yield prediction, max(0.0, time.monotonic() - began_s - prediction.end_s)

    def _seen(self, frames: list[VideoFrame]) -> list[TimedPrediction]:
        steps = [step for frame in frames for step in self._stream.update(frame)]
        if steps:
            self.face = face_box(steps[-1])
        return self._predicted(self._cutter.add_steps(steps, self._step_s))

    def _predicted(self, windows: list[Window]) -> list[TimedPrediction]:
        if self._cutter.audio_open and self._cutter.video_open:
            ahead_s = self._cutter.audio_s - self._cutter.video_s
            if abs(ahead_s) > _MOST_LAG_S:
                late, other = ("picture", "sound") if ahead_s > 0 else ("sound", "picture")
                raise InputError(
                    f"stream: expected sound and picture side by side, the {late} is "
                    f"{abs(ahead_s):.0f} s behind the {other}; end the {late} or feed both"
                )
        return [self._predict(window) for window in windows]

    def _predict(self, window: Window) -> TimedPrediction:
        profile = self.profile
        if not self._adapt or profile is None or window.start_s < self._known_s:
            return self._recognizer.predict_window(window, profile)
        features = self._recognizer.reader.extract(window)
        prediction = self._recognizer.predict_window(window, profile, features)
        if features:
            self.profile = profile.with_clip(features, self._recognizer.features)
            self._known_s = window.end_s
        return prediction

    def _check_open(self, name: str, is_open: bool) -> None:
        if not is_open:
            raise InputError(
                f"{name}: expected none, got some: it was not announced by {name}=True, or has "
                "ended"
            )


class _Sampler:
    """Picks from frames of any rate those on show at ``k / rate_hz``, as is done for a file."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._number = 0  # of the next frame to return
        self._shown: VideoFrame | None = None
        self._length_s = _USUAL_FRAME_S

    def add(self, frame: VideoFrame) -> list[VideoFrame]:
        """The frames that are due before this one comes on show."""
        if not isinstance(frame, VideoFrame) or not isinstance(frame.pixels, np.ndarray):
            raise InputError(
                f"frame: expected a VideoFrame with an array of pixels, got {type(frame).__name__}"
            )
        is_picture = frame.pixels.ndim == 3 and frame.pixels.shape[2] == 3 and frame.pixels.size
        if not is_picture or frame.pixels.dtype != np.uint8:
            raise InputError(
                "frame: expected (H, W, 3) RGB pixels, uint8, got "
                f"{frame.pixels.dtype} of shape {frame.pixels.shape}"
            )
        shown = self._shown
        latest_s = (0.0 if shown is None else shown.time_s) + LONGEST_GAP_S
        if not is_finite(frame.time_s) or not 0 <= frame.time_s <= latest_s:
            raise InputError(
                f"frame: expected a time from 0 s to {latest_s:.3f} s, since no picture is shown "
                f"for longer than {LONGEST_GAP_S:g} s, got {frame.time_s!r}; begin another stream"
            )
        if shown is not None and not frame.time_s > shown.time_s:
            raise InputError(
                f"frame: expected a time after {shown.time_s:.3f} s, got {frame.time_s:.3f} s"
            )
        due = self._until(frame.time_s)
        if shown is not None:
            self._length_s = frame.time_s - shown.time_s
        self._shown = frame
        return due

    def finish(self) -> list[VideoFrame]:
        """The frames that are due until the last one is over."""
        return [] if self._shown is None else self._until(self._shown.time_s + self._length_s)

    def _until(self, stop_s: float) -> list[VideoFrame]:
        if self._shown is None:
            return []
        first = self._number
        while self._number / self._rate_hz < stop_s - CLOSE_S:
            self._number += 1
        if first == self._number:
            return []
        pixels = shrunk(self._shown.pixels, FINEST_SIDE)
        return [VideoFrame(step / self._rate_hz, pixels) for step in range(first, self._number)]


def run_stream(
    recognizer: Recognizer,
    events: LiveSource,
    on_prediction: Callable[[TimedPrediction, float], None],
    *,
    speaker: str | SpeakerProfile | None = None,
    adapt: bool = False,
) -> None:
    """Predicts from a source until it ends. What the model cannot use is passed over.

    Args:
        recognizer: Model and extractors.
        events: Sound and frames, e.g. of :func:`vavl.inference.sources.device`.
        on_prediction: Called with each prediction and its latency in seconds, see
            :meth:`LiveRecognizer.follow`.
        speaker: As in :meth:`vavl.Recognizer.predict`.
        adapt: Whether to get to know the person on the way, see :class:`LiveRecognizer`.

    Raises:
        InputError: The model can take neither the sound nor the picture of the source, or does not
            know the speaker.
        MediaError: The source breaks off.
    """
    audio = events.audio and recognizer.reader.accepts_audio
    video = events.video and recognizer.reader.accepts_video
    if not audio and not video:
        audio, video = events.audio, events.video  # for the error that says why
    live = LiveRecognizer(recognizer, audio=audio, video=video, speaker=speaker, adapt=adapt)
    noted_s = _LATE_S
    for prediction, latency_s in live.follow(events):
        if latency_s > noted_s:
            _log.warning(
                "windows come %.1f s late: the source paused, or this machine is too slow for it",
                latency_s,
            )
            noted_s = 2 * latency_s
        on_prediction(prediction, latency_s)
