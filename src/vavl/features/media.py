"""Reads media files with PyAV: one place that knows containers, codecs and how they break."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError

if TYPE_CHECKING:
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

SAMPLING_RATE_HZ = 16_000
"""What every acoustic extractor of vavl expects."""

_SHORTFALL_S = 0.25
_SHORTFALL_SHARE = 0.01
"""How much shorter than its header says a track may be; codecs pad and trim by less than this."""

_ESTIMATED_DURATION = frozenset({"mp3", "aac", "amr", "ac3", "ogg"})
"""Formats without a total in the header: what FFmpeg reports is an estimate from the file size."""


def read_audio(
    path: str | PathLike[str],
    *,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    start_s: float | None = None,
    end_s: float | None = None,
) -> NDArray[np.float32]:
    """Reads the first audio track of a sound or video file, mixed to mono.

    Args:
        path: File in any format FFmpeg reads.
        sampling_rate_hz: Rate of the result; the track is resampled where it differs.
        start_s: First second to return, from the beginning of the track. Default: 0.
        end_s: Second to stop before; a time beyond the end means the end. Default: the end.

    Returns:
        ``(N,)`` samples, the mean of the channels. Full scale is [-1, 1], which a lossy codec or
        the resampler may overshoot slightly.

    Raises:
        MediaError: The file is missing, empty, not media, damaged or truncated (which MP3 and Ogg
            do not show: their headers do not say how long they are), has no audio track, or
            nothing lies between ``start_s`` and ``end_s``.
        InputError: The rate or the times make no sense.

    Example:
        >>> import tempfile, wave
        >>> path = tempfile.mkdtemp() + "/silence.wav"
        >>> with wave.open(path, "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     file.writeframes(bytes(2 * 8000))
        >>> read_audio(path).shape, read_audio(path, start_s=0.25, end_s=0.5).shape
        ((16000,), (4000,))
    """
    blocks = list(
        audio_blocks(path, sampling_rate_hz=sampling_rate_hz, start_s=start_s, end_s=end_s)
    )
    return np.concatenate(blocks)


def audio_blocks(
    path: str | PathLike[str],
    *,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Streams what :func:`read_audio` returns, in blocks of at least one sample.

    Memory does not grow with the length of the file. Arguments and errors are those of
    :func:`read_audio`; errors are raised while iterating, the one for a truncated file last.

    Yields:
        ``(n,)`` samples.
    """
    first, stop = _selection(sampling_rate_hz, start_s, end_s)
    position = 0  # of the next block, in samples from the beginning of the track
    empty = True
    for block in _decoded(Path(path), sampling_rate_hz):
        chosen = block[max(first - position, 0) : None if stop is None else max(stop - position, 0)]
        position += len(block)
        if len(chosen):
            if not np.isfinite(chosen).all():
                raise MediaError(f"{path}: the audio track contains NaN or infinite samples")
            empty = False
            yield chosen
        if stop is not None and position >= stop:
            break  # what comes after the selection need not even be intact
    if position == 0:
        raise MediaError(f"{path}: the audio track is empty")
    if empty:
        raise MediaError(
            f"{path}: nothing lies between start_s={start_s} and end_s={end_s}; "
            f"the audio track is {position / sampling_rate_hz:.3f} s long"
        )


def resample(
    waveform: NDArray[np.float32], sampling_rate_hz: int, to_hz: int = SAMPLING_RATE_HZ
) -> NDArray[np.float32]:
    """Resamples a mono waveform in memory, with the resampler that :func:`read_audio` uses.

    Args:
        waveform: ``(N,)`` samples.
        sampling_rate_hz: Rate of ``waveform``.
        to_hz: Rate of the result.

    Returns:
        ``(about N * to_hz / sampling_rate_hz,)`` samples.

    Raises:
        InputError: A rate is below 1 Hz.

    Example:
        >>> resample(np.zeros(48_000, dtype=np.float32), 48_000).shape
        (16000,)
    """
    for name, rate in (("sampling_rate_hz", sampling_rate_hz), ("to_hz", to_hz)):
        _check_rate(name, rate)
    if sampling_rate_hz == to_hz or not len(waveform):
        return waveform
    import av

    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(waveform[None], dtype=np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate = sampling_rate_hz
    resampler = av.AudioResampler(format="fltp", rate=to_hz)
    return np.concatenate([*_resampled(resampler, frame), *_resampled(resampler, None)])


def _check_rate(name: str, rate_hz: int) -> None:
    if rate_hz < 1:
        raise InputError(f"{name}: expected at least 1 Hz, got {rate_hz}")


def _selection(
    sampling_rate_hz: int, start_s: float | None, end_s: float | None
) -> tuple[int, int | None]:
    """First sample, and the one to stop before."""
    _check_rate("sampling_rate_hz", sampling_rate_hz)
    start = 0.0 if start_s is None else start_s
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"start_s: expected seconds >= 0, got {start_s}")
    if end_s is None:
        return round(start * sampling_rate_hz), None
    if not (math.isfinite(end_s) and end_s > start):
        raise InputError(f"end_s: expected more than start_s={start:g}, got {end_s}")
    return round(start * sampling_rate_hz), round(end_s * sampling_rate_hz)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Opens a media file; what FFmpeg has against it becomes a MediaError that names the file."""
    import av

    if not path.exists():
        raise MediaError(f"{path}: the file does not exist")
    if not path.is_file():
        raise MediaError(f"{path}: expected a file, this is a folder")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)")
    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path}: not a media file, or damaged ({reason})") from error


def _decoded(path: Path, sampling_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Mono blocks of the whole track; ends with an error where the track breaks off early."""
    import av

    with _opened(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: the file has no audio track")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", rate=sampling_rate_hz)
        decoded_s = 0.0
        for frame in container.decode(stream):
            decoded_s += frame.samples / frame.sample_rate
            # Time stamps of a damaged file may go backwards, which the resampler would act upon.
            frame.pts = None
            yield from _resampled(resampler, frame)
        yield from _resampled(resampler, None)
        declared_s = _declared_duration_s(path, container, stream)
    if declared_s is not None:
        tolerance_s = _SHORTFALL_S + _SHORTFALL_SHARE * declared_s
        if decoded_s < declared_s - tolerance_s:
            raise MediaError(
                f"{path}: the file is truncated: its header says {declared_s:.2f} s, "
                f"the audio track ends after {decoded_s:.2f} s"
            )


def _resampled(resampler: AudioResampler, frame: object | None) -> Iterator[NDArray[np.float32]]:
    """Resamples a decoded frame, or with None what the resampler still holds, and mixes to mono."""
    for resampled in resampler.resample(frame):  # type: ignore[arg-type]
        if resampled.samples:
            # Not mixed by the resampler: its downmix of stereo to float exceeds full scale.
            yield resampled.to_ndarray().mean(axis=0, dtype=np.float32)


def _declared_duration_s(
    path: Path, container: InputContainer, stream: AudioStream
) -> float | None:
    """How long the header says the track is; None where it does not say."""
    names = set(container.format.name.split(","))
    if names & _ESTIMATED_DURATION:
        return None
    if "wav" in names and (declared := _wav_data_bytes(path)) is not None:
        # FFmpeg quietly shortens the duration to what is there.
        bytes_per_s = (stream.codec_context.bit_rate or 0) / 8
        return declared / bytes_per_s if bytes_per_s else None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
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
                # 0 and the largest sizes are what a recorder writes that does not know the length.
                return size if 0 < size < 0x7FFFFFFF else None
            file.seek(size + size % 2, 1)
    return None
