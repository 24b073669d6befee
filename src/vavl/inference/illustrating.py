"""A clip predicted and drawn in one go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Unpack

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError
from vavl.inference.clip_prediction import ClipPrediction
from vavl.inference.drawing import check_overlay, check_overlay_name, check_plot
from vavl.inference.files import ClipFiles
from vavl.inference.reader import Reading
from vavl.inference.recognizer import Recognizer, Segments
from vavl.media.container import media_info


def illustrate(
    recognizer: Recognizer,
    clip: ClipFiles,
    *,
    plot: Path | None = None,
    overlay: Path | None = None,
    faces: Path | None = None,
    timeline: bool = True,
    speaker: str | SpeakerProfile | None = None,
    segments: Segments = False,
    **reading: Unpack[Reading],
) -> ClipPrediction:
    """Predicts a clip and makes the pictures that are asked for.

    Args:
        recognizer: Who predicts.
        clip: A video file, a sound file or a folder of frames; features cannot be drawn.
        plot: Where to write the plot, see :meth:`ClipPrediction.plot`. Default: none.
        overlay: Where to write the video, see :meth:`ClipPrediction.save_overlay`. Default: none.
        faces: Folder for the faces, see :meth:`ClipPrediction.save_faces`. Default: none.
        timeline: Whether to predict over time also where nothing is drawn that needs it.
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
            "plot, overlay, faces: expected a clip with a sound or video file alone, got "
            f"{clip.name!r} with features; give the file they were made from"
        )
    if plot is not None:
        check_plot(plot)
    if overlay is not None:
        check_overlay(clip.media, overlay)
    drawn = plot is not None or overlay is not None
    if drawn and (reading.get("start_s") or reading.get("end_s")):
        raise InputError("plot, overlay: expected the whole clip, got start_s or end_s")
    prediction = recognizer.predict_files(
        clip, speaker=speaker, timeline=timeline or drawn, segments=segments, **reading
    )
    if plot is not None:
        prediction.plot(plot)
    if overlay is not None:
        prediction.save_overlay(overlay)
    if faces is not None:
        prediction.save_faces(faces)
    return prediction


class Pictures:
    """Where the pictures of clips go: into a file, or into folders with a file for each clip.

    A path without an ending is a folder: of plots ``NAME.png``, of overlays ``NAME.mp4`` for clips
    that have a picture.

    Args:
        plot: File or folder of plots.
        overlay: File or folder of overlays.
        faces: Folder, with a folder of faces for each clip.

    Raises:
        InputError: A file with an ending that it cannot have.
    """

    def __init__(self, plot: Path | None, overlay: Path | None, faces: Path | None) -> None:
        self.plot, self.overlay, self.faces = plot, overlay, faces
        if plot is not None and not _is_folder(plot):
            check_plot(plot)
        if overlay is not None and not _is_folder(overlay):
            check_overlay_name(overlay)

    def __bool__(self) -> bool:
        return any(path is not None for path in (self.plot, self.overlay, self.faces))

    @property
    def files(self) -> list[Path]:
        """Those that are files, and so for one clip alone."""
        return [p for p in (self.plot, self.overlay) if p is not None and not _is_folder(p)]

    def drawing(
        self, recognizer: Recognizer, clip: ClipFiles, name: str
    ) -> Callable[..., ClipPrediction]:
        """:func:`illustrate` with all it needs for a clip, whose files are called by the name."""
        plot, overlay = self.plot, self.overlay
        if plot is not None and _is_folder(plot):
            plot = plot / f"{name}.png"
        if overlay is not None and _is_folder(overlay):
            overlay = overlay / f"{name}.mp4" if _has_picture(clip) else None
        faces = None if self.faces is None else self.faces / name
        return partial(illustrate, recognizer, plot=plot, overlay=overlay, faces=faces)


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _has_picture(clip: ClipFiles) -> bool:
    return clip.media is not None and (clip.media.is_dir() or media_info(clip.media).has_video)
