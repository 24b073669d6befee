"""Opens media files, and places their tracks on one timeline."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vavl.errors import InputError, MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

Track = TypeVar("Track", "AudioStream", "VideoStream")

LONGEST_GAP_S = 600.0
"""No track of an intact file starts so long after the other, and no picture is shown for so long.

This limits what a damaged time stamp can cost: silence or repeated pictures would fill the gap.
"""

LONGEST_S = 24 * 3600.0
"""Of a file that says that it is longer, a part must be asked for."""

MOST_PIXELS = 100_000_000
"""Of a picture: larger ones would take a gigabyte, whatever the size of their file."""

_LEAST_BYTES_PER_S = 8
_FREE_S = 600.0
"""A file lasts at most so long, and a second for each so many bytes: pauses of speech codecs and
pictures that stand still take more."""

_MOST_HOLES = 8
_LEAST_SPARSE_BYTES = 1 << 26
"""A file of so many bytes, of which one in so many is there at all, was not copied to its end."""

_SHORTFALL_S = 0.25
_SHORTFALL_SHARE = 0.01
"""By how much a track may be shorter than its header says; codecs pad and trim by less."""

_ESTIMATED_DURATION = frozenset({"mp3", "aac", "amr", "ac3", "ogg"})
"""Formats without a length in the header: FFmpeg estimates it from the size of the file."""


_LONGEST_TITLE = 40

_OF_OTHER_FILES = frozenset({"hls", "dash", "concat", "concatf", "sdp", "rtsp", "imf", "lavfi"})
"""Formats of FFmpeg whose content lies elsewhere: playlists and the like."""

_ASIDE = ("comment", "visual_impaired", "hearing_impaired", "descriptions", "karaoke")
"""Dispositions of tracks that speak about the film, or beside it: theirs is not its own voice."""


@dataclass(frozen=True)
class AudioTrackInfo:
    """A track of sound, by the header of its file; None where that does not say.

    Attributes:
        number: From 1, as players count them; FFmpeg's ``a:N`` is one less.
        language: Tag of the track, e.g. ``"eng"``.
        title: Of the track, cut after 40 characters.
        channels: How many there are.
        sampling_rate_hz: As stored.
        is_default: Whether players take it where nobody chooses.
        is_aside: Whether it is commentary, or a description for those who do not see or hear.
        is_known: Whether FFmpeg knows a decoder for it.

    Example:
        >>> str(AudioTrackInfo(2, "eng", "Director")), str(AudioTrackInfo(3))
        ("2 (eng, 'Director')", '3')
    """

    number: int
    language: str | None = None
    title: str | None = None
    channels: int | None = None
    sampling_rate_hz: int | None = None
    is_default: bool = False
    is_aside: bool = False
    is_known: bool = True

    def __str__(self) -> str:
        about = [*filter(None, [self.language]), *(repr(t) for t in [self.title] if t)]
        return f"{self.number} ({', '.join(about)})" if about else str(self.number)


@dataclass(frozen=True)
class MediaInfo:
    """Tracks and times of a media file, by its header; None where there is no such track.

    Times are those of the timeline that sound and picture share: 0 is where the earliest of the
    tracks of sound and the first of pictures starts.

    Attributes:
        duration_s: Length of the longest track, or None where the header does not say. Formats
            without a total (MP3, raw AAC, Ogg) give an estimate.
        audio_start_s: When the sound starts: that of the first track that can be decoded.
        video_start_s: When the picture starts.
        sampling_rate_hz: Of that sound as stored.
        width: Of the picture as stored, in pixels, before it is turned; likewise ``height``.
        frame_rate_hz: Mean number of pictures a second, or None where it is not known.
        audio_tracks: All tracks of sound.
    """

    duration_s: float | None
    audio_start_s: float | None = None
    video_start_s: float | None = None
    sampling_rate_hz: int | None = None
    width: int | None = None
    height: int | None = None
    frame_rate_hz: float | None = None
    audio_tracks: tuple[AudioTrackInfo, ...] = ()

    @property
    def has_audio(self) -> bool:
        """Whether there is an audio track."""
        return self.audio_start_s is not None

    @property
    def has_video(self) -> bool:
        """Whether there is a video track; the cover of a song is none."""
        return self.video_start_s is not None


def media_info(path: str | PathLike[str]) -> MediaInfo:
    """Reads the header of a media file; nothing is decoded.

    Raises:
        MediaError: The file is missing, empty, not media or damaged, or FFmpeg knows no decoder for
            the picture or for any track of sound.

    Example:
        >>> import tempfile, wave
        >>> path = tempfile.mkdtemp() + "/silence.wav"
        >>> with wave.open(path, "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     file.writeframes(bytes(2 * 8000))
        >>> info = media_info(path)
        >>> info.duration_s, info.audio_start_s, info.video_start_s, info.sampling_rate_hz
        (1.0, 0.0, None, 8000)
        >>> [(track.number, track.channels) for track in info.audio_tracks]
        [(1, 1)]
    """
    path = Path(path)
    with opened(path) as container:
        audio, video = audio_track(container), video_track(container)
        duration_s = None if container.duration is None else container.duration / 1e6
        info = MediaInfo(duration_s)
        if audio:
            info = replace(
                info,
                audio_start_s=track_start_s(path, container, audio),
                sampling_rate_hz=required(path, audio, "audio").codec_context.sample_rate,
                audio_tracks=tuple(
                    _described(number, track)
                    for number, track in enumerate(container.streams.audio, start=1)
                ),
            )
        if video:
            picture = required(path, video, "video").codec_context
            info = replace(
                info,
                video_start_s=track_start_s(path, container, video),
                width=picture.width,
                height=picture.height,
                frame_rate_hz=float(video.average_rate) if video.average_rate else None,
            )
        return info


@contextmanager
def media_errors(problem: str) -> Iterator[None]:
    """Inside, errors of FFmpeg become a MediaError: the problem, and FFmpeg's reason."""
    import av

    try:
        yield
    # PyAV raises an IndexError when a track turns up half way through the file.
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{problem} ({reason})") from error


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opens a media file; a MediaError names it and FFmpeg's reason if that fails."""
    import av

    if not path.exists():
        raise MediaError(f"{path}: the file does not exist")
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a device or a pipe"
        raise MediaError(f"{path}: expected a file, this is {found}")
    state = path.stat()
    if state.st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)")
    there = 512 * getattr(state, "st_blocks", 0)  # 0 where the file system does not say
    if there and state.st_size > max(_LEAST_SPARSE_BYTES, _MOST_HOLES * there):
        raise MediaError(
            f"{path}: only {there / 1e6:.1f} MB of {state.st_size / 1e6:,.0f} MB are there, the "
            "rest are holes; was it copied to its end?"
        )
    # This file and no other: FFmpeg would take a name with a colon for an address, one with %03d
    # for a row of pictures, and open what a playlist names.
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(av.formats_available - _OF_OTHER_FILES),
        "pattern_type": "none",
        "max_pixels": str(MOST_PIXELS),
    }
    problem = (
        f"{path}: not a media file, or damaged, or a list of others, which are not read, or with "
        f"more than {MOST_PIXELS / 1e6:g} million pixels"
    )
    with media_errors(problem), av.open(f"file:{path}", options=options) as container:
        yield container


class Presented:
    """Counts what a file shows or lets hear, which its size bounds.

    Args:
        path: The file.
        container: The same, opened.
        is_open_ended: Whether all of it is asked for.

    Raises:
        MediaError: All is asked for, and the header says that it is longer than
            :data:`LONGEST_S`.
    """

    def __init__(self, path: Path, container: InputContainer, *, is_open_ended: bool) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._longest_s = _FREE_S + self._size / _LEAST_BYTES_PER_S
        if is_open_ended:
            self._longest_s = min(self._longest_s, LONGEST_S)
            declared_s = (container.duration or 0) / 1e6
            if declared_s > LONGEST_S:
                raise MediaError(f"{path}: its header says {declared_s / 3600:.1f} h; {_ASK}")

    def reach(self, time_s: float) -> None:
        """Raises MediaError where a time lies beyond what such a file can last."""
        if time_s <= self._longest_s:
            return
        if self._longest_s == LONGEST_S:
            raise MediaError(f"{self._path}: longer than {LONGEST_S / 3600:g} h; {_ASK}")
        raise MediaError(
            f"{self._path}: expected at most {self._longest_s:.0f} s of a file of {self._size:,} "
            f"bytes, got {time_s:.0f} s: its times or its rate are damaged"
        )


_ASK = (
    f"expected at most {LONGEST_S / 3600:g} h, unless a part is asked for: give a second to stop "
    "before (end_s, --end)"
)


def audio_track(container: InputContainer, number: int | None = None) -> AudioStream | None:
    """The audio track of a number, from 1; by default the first that can be decoded, or else is."""
    tracks = container.streams.audio
    if number is not None:
        return tracks[number - 1] if 1 <= number <= len(tracks) else None
    known = (track for track in tracks if track.codec_context is not None)
    return next(known, next(iter(tracks), None))


def video_track(container: InputContainer) -> VideoStream | None:
    """The first video track that moves: the cover of a song is a track too, of one picture."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def required(path: Path, track: Track | None, kind: str) -> Track:
    """The track; a MediaError where there is none that can be decoded."""
    if track is None:
        raise MediaError(f"{path}: the file has no {kind} track")
    # Unlike PyAV's stubs say, it is None where FFmpeg does not know the codec.
    if track.codec_context is None:
        raise MediaError(
            f"{path}: the {kind} track is damaged, or in a format that FFmpeg cannot decode"
        )
    return track


def zero_s(container: InputContainer) -> float:
    """The time stamp, in seconds, where the earliest of the audio and video tracks starts.

    Further audio tracks count whichever is chosen, so that the times of the picture do not depend
    on the choice; one that starts impossibly early counts for nothing.
    """
    firsts = [track for track in (audio_track(container), video_track(container)) if track]
    zero = min(filter(_is_stamped, map(_first_stamp_s, firsts)), default=0.0)
    others = filter(_is_stamped, map(_first_stamp_s, container.streams.audio))
    return min([zero, *(stamp for stamp in others if zero - stamp <= LONGEST_GAP_S)])


def track_start_s(path: Path, container: InputContainer, track: AudioStream | VideoStream) -> float:
    """When a track starts on the timeline of the file, in seconds from :func:`zero_s`."""
    stamp_s = _first_stamp_s(track)
    start_s = stamp_s - zero_s(container) if _is_stamped(stamp_s) else 0.0
    if abs(start_s) > LONGEST_GAP_S:
        raise MediaError(
            f"{path}: the {track.type} track starts {abs(start_s):.0f} s "
            f"{'after' if start_s > 0 else 'before'} the other, expected at "
            f"most {LONGEST_GAP_S:.0f} s: its time stamps are damaged"
        )
    return start_s


def _first_stamp_s(track: AudioStream | VideoStream) -> float:
    """Infinite where the header does not say."""
    if track.start_time is None or track.time_base is None:
        return math.inf
    # Before zero lies the run-in of a codec, which is decoded but not presented.
    return max(0.0, float(track.start_time * track.time_base))


def _is_stamped(stamp_s: float) -> bool:
    return stamp_s < math.inf


def _described(number: int, track: AudioStream) -> AudioTrackInfo:
    from av.stream import Disposition

    context = track.codec_context
    language = _readable(track.metadata.get("language"))
    return AudioTrackInfo(
        number,
        language=None if language in ("und", "unknown") else language,
        title=_readable(track.metadata.get("title")),
        channels=(context.channels or None) if context else None,
        sampling_rate_hz=(context.sample_rate or None) if context else None,
        is_default=bool(track.disposition & Disposition.default),
        is_aside=any(track.disposition & Disposition[name] for name in _ASIDE),
        is_known=context is not None,
    )


def _readable(text: str | None) -> str | None:
    """Text of a header without what could move a cursor, and not too long; None for nothing."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text or "").strip()
    return (clean if len(clean) <= _LONGEST_TITLE else f"{clean[: _LONGEST_TITLE - 1]}…") or None


def checked_span(start_s: float | None, end_s: float | None) -> tuple[float, float]:
    """The selected span in seconds, [0, infinity) by default; InputError if it makes no sense."""
    start = 0.0 if start_s is None else start_s
    if not (is_finite(start) and start >= 0):
        raise InputError(f"start_s: expected seconds >= 0, got {start_s!r}")
    if end_s is None:
        return start, math.inf
    if not (is_finite(end_s) and end_s > start):
        raise InputError(f"end_s: expected more than start_s={start:g}, got {end_s!r}")
    return start, end_s


def is_finite(value: object) -> bool:
    """Whether a value is a real number, neither NaN nor infinite.

    Example:
        >>> [is_finite(value) for value in (1, 2.5, "1", None, True, math.inf)]
        [True, True, False, False, False, False]
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_length(
    path: Path, track: AudioStream | VideoStream, container: InputContainer, reached_s: float
) -> None:
    """Checks that a track did not break off early, after ``reached_s`` of its own seconds."""
    declared_s = _declared_duration_s(path, container, track)
    if declared_s is None:
        return
    if reached_s < declared_s - _SHORTFALL_S - _SHORTFALL_SHARE * declared_s:
        raise MediaError(
            f"{path}: the file is truncated: its header says {declared_s:.2f} s, "
            f"the {track.type} track ends after {reached_s:.2f} s"
        )


def _declared_duration_s(
    path: Path, container: InputContainer, track: AudioStream | VideoStream
) -> float | None:
    """Length of the track by its header, in seconds; None where the header does not say."""
    names = set(container.format.name.split(","))
    if names & _ESTIMATED_DURATION:
        return None
    if "wav" in names and (declared := _wav_data_bytes(path)) is not None:
        # FFmpeg silently shortens the duration to that of the data.
        bytes_per_s = (track.codec_context.bit_rate or 0) / 8
        return declared / bytes_per_s if bytes_per_s else None
    if track.duration is not None and track.time_base is not None:
        return float(track.duration * track.time_base)
    # The duration of the container is that of its longest track.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _wav_data_bytes(path: Path) -> int | None:
    """Size of the sound data by the header of a RIFF file; None for other or unfinished headers."""
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return None
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                # Recorders that do not know the length write 0 or the largest size.
                return size if 0 < size < 0x7FFFFFFF else None
            file.seek(size + size % 2, 1)
    return None
