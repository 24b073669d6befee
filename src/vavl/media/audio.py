"""The sound of media files: mono samples, whole or in blocks, on the timeline of the file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from vavl.errors import EmptySpanError, InputError, MediaError
from vavl.media.container import (
    Presented,
    audio_track,
    check_length,
    checked_span,
    is_finite,
    opened,
    required,
    track_start_s,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

SAMPLING_RATE_HZ = 16_000
"""The rate that every acoustic extractor of vavl expects."""
RATES_HZ = (1_000, 4_000_000)
"""Lowest and highest sampling rate that is taken. Below, there is no speech in the sound; a higher
one would take much memory to resample."""
_MOST_CHANNELS = 64
"""FFmpeg resamples no more of them at a time."""
SILENCE_DBFS = -65.0
"""Sound whose level lies below counts as silence, where nothing says that there is speech in it."""


_CANCELLED = 0.2
"""Power of the mean of channels, as a share of what it is where they have nothing in common, below
which they cancel: 10 dB less than each of two that are equally loud."""


def read_audio(
    path: str | PathLike[str],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    track: int | None = None,
    channels: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Reads an audio track of a sound or video file: mono, at 16 kHz.

    Args:
        path: File in any format FFmpeg reads.
        start_s: First second to return. Default: 0, the beginning of the track; or of the picture
            or another track, if that starts earlier: the time between is silence.
        end_s: Second to stop before; a time beyond the end means the end. Default: the end.
        track: Its number from 1, see :class:`vavl.media.container.AudioTrackInfo`. Default: the
            first that can be decoded.
        channels: Those that are mixed, counted from 0. Default: all.

    Returns:
        ``(N,)`` samples, the mean of the channels; the loudest one for the blocks in which they
        cancel, as where one is wired the wrong way round. Full scale is [-1, 1], which a lossy
        codec or the resampler may overshoot slightly.

    Raises:
        MediaError: The file is missing, empty, not media, damaged or truncated, has no audio track,
            or nothing lies between ``start_s`` and ``end_s``. In MP3 and Ogg, truncation goes
            unnoticed, since their headers do not say how long they are.
        InputError: The times make no sense.

    Example:
        >>> import tempfile, wave
        >>> path = tempfile.mkdtemp() + "/silence.wav"
        >>> with wave.open(path, "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     file.writeframes(bytes(2 * 8000))
        >>> read_audio(path).shape, read_audio(path, start_s=0.25, end_s=0.5).shape
        ((16000,), (4000,))
    """
    blocks = audio_blocks(path, start_s=start_s, end_s=end_s, track=track, channels=channels)
    return np.concatenate(list(blocks))


def audio_blocks(
    path: str | PathLike[str],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    track: int | None = None,
    channels: Sequence[int] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Streams what :func:`read_audio` returns, in blocks of at least one sample.

    Memory does not grow with the length of the file. Arguments and errors are those of
    :func:`read_audio`; errors are raised while iterating, the one for a truncated file last.
    """
    start, end = checked_span(start_s, end_s)
    first = round(start * SAMPLING_RATE_HZ)
    stop = None if math.isinf(end) else round(end * SAMPLING_RATE_HZ)
    position = 0  # of the next block, in samples from the beginning of the track
    empty = True
    for block in _decoded(Path(path), track, channels, is_open_ended=stop is None):
        chosen = block[max(first - position, 0) : None if stop is None else max(stop - position, 0)]
        position += len(block)
        if len(chosen):
            if not np.isfinite(chosen).all():
                raise MediaError(f"{path}: the audio track contains NaN or infinite samples")
            empty = False
            yield chosen
        if stop is not None and position >= stop:
            break  # the rest of the file need not be intact
    if position == 0:
        raise MediaError(f"{path}: the audio track is empty")
    if empty:
        raise EmptySpanError(
            f"{path}: nothing lies between start_s={start_s} and end_s={end_s}; "
            f"the audio track is {position / SAMPLING_RATE_HZ:.3f} s long"
        )


def resample(waveform: NDArray[np.float32], sampling_rate_hz: int) -> NDArray[np.float32]:
    """Resamples ``(N,)`` samples in memory, with the resampler that :func:`read_audio` uses.

    Raises:
        InputError: The rate is none of those of :func:`check_sampling_rate`.

    Example:
        >>> resample(np.zeros(48_000, dtype=np.float32), 48_000).shape
        (16000,)
    """
    check_sampling_rate(sampling_rate_hz)
    if sampling_rate_hz == SAMPLING_RATE_HZ or not len(waveform):
        return waveform
    samples = waveform.astype(np.float32, copy=False)
    return np.concatenate(list(resample_blocks([samples], sampling_rate_hz)))


def check_sampling_rate(rate_hz: object) -> int:
    """The rate, a whole number within :data:`RATES_HZ`; InputError where it is none.

    Example:
        >>> check_sampling_rate(48_000)
        48000
    """
    lowest, highest = RATES_HZ
    if (
        not is_finite(rate_hz)
        or not lowest <= (rate := cast(float, rate_hz)) <= highest
        or rate % 1
    ):
        raise InputError(
            f"sampling_rate_hz: expected a whole number from {lowest} to {highest}, got {rate_hz!r}"
        )
    return int(rate)


def resample_blocks(
    blocks: Iterable[NDArray[np.float32] | NDArray[np.int16]],
    sampling_rate_hz: int,
) -> Iterator[NDArray[np.float32]]:
    """Resamples blocks ``(n,)`` of a mono waveform, as :func:`resample` does in one piece.

    The samples are floating point in [-1, 1] or 16-bit integers; those returned are in [-1, 1].

    Example:
        >>> blocks = [np.zeros(4800, dtype=np.int16)] * 10
        >>> sum(len(block) for block in resample_blocks(blocks, 48_000))
        16000
    """
    resampler = BlockResampler(sampling_rate_hz)
    for block in blocks:
        yield from resampler.add(block)
    yield from resampler.finish()


class BlockResampler:
    """Resamples a mono waveform as its blocks come in, see :func:`resample_blocks`."""

    def __init__(self, sampling_rate_hz: int) -> None:
        self._sampling_rate_hz = check_sampling_rate(sampling_rate_hz)
        self._resampler = new_resampler()

    def add(self, block: NDArray[np.float32] | NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
        """Takes the next block; gives what is known by it."""
        import av

        form = "s16" if block.dtype == np.int16 else "fltp"
        samples: NDArray[Any] = np.ascontiguousarray(block[None])
        frame = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
        frame.sample_rate = self._sampling_rate_hz
        return resampled_blocks(self._resampler, frame)

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Gives the rest."""
        return resampled_blocks(self._resampler, None)


def level_dbfs(waveform: NDArray[np.float32]) -> float:
    """Root mean square of ``(N,)`` samples without their mean, in dB; 0 is that of full scale.

    Minus infinity without any sound.

    Example:
        >>> round(level_dbfs(np.array([0.4, 0.6], np.float32)), 3)
        -20.0
    """
    return decibels(float(waveform.var(dtype=np.float64))) if len(waveform) else -math.inf


def decibels(power: float) -> float:
    """Power in dB, 0 being full scale; minus infinity for none."""
    return 10 * math.log10(power) if power > 0 else -math.inf


def _decoded(
    path: Path, number: int | None, channels: Sequence[int] | None, *, is_open_ended: bool
) -> Iterator[NDArray[np.float32]]:
    """Mono blocks of the whole track; raises at the end if the track breaks off early."""
    with opened(path) as container:
        stream = required(path, audio_track(container, number), "audio")
        # FFmpeg counts none where there are more than it could ever decode.
        if not 0 < stream.codec_context.channels <= _MOST_CHANNELS:
            raise MediaError(
                f"{path}: the audio track has {stream.codec_context.channels or 'too many'} "
                f"channels, or none; expected at most {_MOST_CHANNELS}: mix them before"
            )
        lowest, highest = RATES_HZ
        if not lowest <= stream.codec_context.sample_rate <= highest:
            raise MediaError(
                f"{path}: expected sound of {lowest:,} to {highest:,} Hz, got "
                f"{stream.codec_context.sample_rate:,} Hz"
            )
        presented = Presented(path, container, is_open_ended=is_open_ended)
        silence = round(track_start_s(path, container, stream) * SAMPLING_RATE_HZ)
        resampler = new_resampler()
        decoded_s = 0.0
        for frame in container.decode(stream):
            if silence:  # in front of the first samples, so that a track without any stays empty
                yield np.zeros(silence, np.float32)
                silence = 0
            decoded_s += frame.samples / frame.sample_rate
            presented.reach(decoded_s)
            # Time stamps of a damaged file may go backwards, which the resampler would act upon.
            frame.pts = None
            yield from resampled_blocks(resampler, frame, channels)
        yield from resampled_blocks(resampler, None, channels)
        check_length(path, stream, container, decoded_s)


def new_resampler() -> AudioResampler:
    """For :func:`resampled_blocks`: to 16 kHz, with all channels."""
    import av

    # Interleaved: PyAV reads beyond its list of planes where there are more than seven.
    return av.AudioResampler(format="flt", rate=SAMPLING_RATE_HZ)


def resampled_blocks(
    resampler: AudioResampler, frame: AudioFrame | None, channels: Sequence[int] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Resamples a decoded frame and mixes it to mono; None flushes the resampler."""
    for block in resampled_channels(resampler, frame):
        yield _mixed(block if channels is None else block[list(channels)])


def resampled_channels(
    resampler: AudioResampler, frame: AudioFrame | None
) -> Iterator[NDArray[np.float32]]:
    """Resamples a decoded frame: blocks ``(C, n)``; None flushes the resampler."""
    lowest, highest = RATES_HZ
    if frame is not None and not lowest <= frame.sample_rate <= highest:
        raise ValueError(f"a sampling rate of {frame.sample_rate} Hz")  # it may change half way
    for resampled in resampler.resample(frame):
        if resampled.samples:
            samples = resampled.to_ndarray().astype(np.float32, copy=False)
            yield samples.reshape(resampled.samples, -1).T


def _mixed(channels: NDArray[Any]) -> NDArray[np.float32]:
    """``(C, n)`` samples to ``(n,)``: the mean, or the loudest where the channels cancel."""
    # The resampler's own mix of stereo to mono would exceed full scale.
    mean = channels.mean(axis=0, dtype=np.float32)
    if len(channels) > 1:
        power = np.square(channels, dtype=np.float64).mean(axis=1)
        apart = power.sum() / len(channels) ** 2
        if np.square(mean, dtype=np.float64).mean() < _CANCELLED * apart:
            return channels[power.argmax()].astype(np.float32)
    return mean
