"""A clip predicted and drawn in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError
from vavl.inference.clip_prediction import ClipPrediction
from vavl.inference.drawing import check_overlay, check_plot
from vavl.inference.files import ClipFiles
from vavl.inference.reader import Reading
from vavl.inference.recognizer import Recognizer, Segments


def illustrate(
    recognizer: Recognizer,
    clip: ClipFiles,
    *,
    plot: Path | None = None,
    overlay: Path | None = None,
    speaker: str | SpeakerProfile | None = None,
    segments: Segments = False,
    **reading: Unpack[Reading],
) -> ClipPrediction:
    """Predicts a clip over time and draws the pictures that are asked for.

    Args:
        recognizer: Who predicts.
        clip: A video file, a sound file or a folder of frames; features cannot be drawn.
        plot: Where to write the plot, see :meth:`ClipPrediction.plot`. Default: none.
        overlay: Where to write the video, see :meth:`ClipPrediction.save_overlay`. Default: none.
        speaker: As for :meth:`vavl.inference.Recognizer.predict`.
        segments: Likewise, or a folder as for :meth:`vavl.inference.Recognizer.predict_files`.
        reading: Likewise; what is drawn is the whole clip.

    Raises:
        InputError: The clip has features, or for an overlay no picture; or a suffix is unknown.
            Nothing was predicted then.
        MediaError: As :meth:`vavl.inference.Recognizer.predict`, or a file cannot be written.

    Example:
        >>> import vavl
        >>> clip = ClipFiles("film.mp4", media=Path("film.mp4"))
        >>> illustrate(vavl.load(), clip, overlay=Path("seen.mp4")).label  # doctest: +SKIP
        'happy'
    """
    if clip.media is None or clip.acoustic is not None or clip.visual is not None:
        raise InputError(
            f"plot, overlay: expected a clip with a sound or video file alone, got {clip.name!r} "
            "with features; give the file they were made from"
        )
    if plot is not None:
        check_plot(plot)
    if overlay is not None:
        check_overlay(clip.media, overlay)
    if reading.get("start_s") or reading.get("end_s"):
        raise InputError("plot, overlay: expected the whole clip, got start_s or end_s")
    prediction = recognizer.predict_files(
        clip, speaker=speaker, timeline=True, segments=segments, **reading
    )
    if plot is not None:
        prediction.plot(plot)
    if overlay is not None:
        prediction.save_overlay(overlay)
    return prediction
