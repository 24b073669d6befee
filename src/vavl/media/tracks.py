"""Which tracks of sound, and which of many channels, are heard: those with speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.media.audio import (
    SAMPLING_RATE_HZ,
    SILENCE_DBFS,
    level_dbfs,
    new_resampler,
    resampled_blocks,
    resampled_channels,
)
from vavl.media.container import AudioTrackInfo, opened
from vavl.media.languages import same_language
from vavl.media.speech import only_speech

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.container import InputContainer

    _Blocks = Callable[[AudioResampler, AudioFrame], Iterator[NDArray[np.float32]]]
    """Makes ``(n,)`` or ``(C, n)`` samples of a frame."""

_STRETCH_S = 4.0
"""Seconds that are listened to in one go; half of them where there are many tracks."""
_MOST_S = 16.0
"""Seconds of sound that are listened to of a track."""
_MOST_ALTOGETHER_S = 64.0
"""Seconds that are listened to of all tracks, at least 2 s of each."""
_PLACES = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)
"""Where stretches begin, in sixteenths of the file: spread, however many are needed."""
_MOST_OF_CHANNELS_S = 32.0
"""Seconds that are listened to of all channels of a track."""
_USUAL_CHANNELS = 2
"""So many are mixed as they are: they were recorded to be heard together."""
_SPEAKS = 0.1
"""A channel has speech in it from this share on of what the one with the most has."""
_AS_MUCH = 0.7
"""A track has as much speech as another from this share on: dubbed voices differ by less."""
_LISTED = 4
"""Tracks or channels that a note names."""


class ChosenTrack(NamedTuple):
    """A track of sound.

    Attributes:
        number: Its number, from 1.
        note: What it was chosen for, in words; None where there was no choice.
    """

    number: int
    note: str | None = None


class ChosenChannels(NamedTuple):
    """Channels of a track.

    Attributes:
        channels: Those that are heard, from 0; None for all.
        note: Which they are, in words; None for all.
    """

    channels: tuple[int, ...] | None = None
    note: str | None = None


class _Evidence(NamedTuple):
    """What was heard of a track, in seconds."""

    sound_s: float = 0.0
    speech_s: float = 0.0


def check_asked(asked: int | str | None) -> int | str | None:
    """The number of a track, or its language; InputError where it is neither.

    Example:
        >>> check_asked("2"), check_asked("eng")
        (2, 'eng')
    """
    if isinstance(asked, str) and asked.strip().isdecimal():
        asked = int(asked)
    is_number = isinstance(asked, int) and not isinstance(asked, bool) and asked >= 1
    is_language = isinstance(asked, str) and asked.strip()
    if asked is None or is_number or is_language:
        return asked
    raise InputError(
        f"audio_track: expected a number from 1 or a language such as 'eng', got {asked!r}"
    )


def choose_audio_track(
    path: Path, tracks: Sequence[AudioTrackInfo], asked: int | str | None = None
) -> ChosenTrack:
    """The track of sound that is asked for, or else the one in which there is speech.

    Where several come into question, each is listened to, for up to 16 s of sound in places all
    over the file. The one with the most speech is taken. Of those with as much, within 30 %, as
    dubbed films have them, it is the default one, or else the first. Commentary and descriptions
    come into question only where nobody speaks elsewhere.

    Args:
        path: The file.
        tracks: Its tracks, as :func:`vavl.media.container.media_info` lists them.
        asked: A number from 1, or a language as two or three letters.

    Raises:
        InputError: What is asked for is no number and no language.
        MediaError: There is no such track; the message lists those that there are.

    Example:
        >>> tracks = [AudioTrackInfo(1, "deu"), AudioTrackInfo(2, "eng")]
        >>> choose_audio_track(Path("film.mkv"), tracks, "en")
        ChosenTrack(number=2, note=None)
    """
    asked = check_asked(asked)
    found = [track for track in tracks if asked is None or _is_meant(track, asked)]
    if not found:
        listed = f"there are {', '.join(map(str, tracks))}" if tracks else "there is no sound"
        raise MediaError(f"{path}: expected audio track {asked!r}, {listed}")
    known = [track for track in found if track.is_known] or found
    if len(known) == 1:
        no_choice = asked is not None or len(tracks) == 1
        why = "the only one that can be decoded"
        return ChosenTrack(known[0].number, None if no_choice else _note(tracks, known[0], why))
    chosen, why = _best(known, _listen(path, known))
    return ChosenTrack(chosen.number, _note(tracks, chosen, why))


def _is_meant(track: AudioTrackInfo, asked: int | str) -> bool:
    if isinstance(asked, int):
        return track.number == asked
    return track.language is not None and same_language(track.language, asked)


def _note(tracks: Sequence[AudioTrackInfo], chosen: AudioTrackInfo, why: str) -> str:
    others = _listed([str(track) for track in tracks if track is not chosen])
    return f"{len(tracks)} audio tracks: took {chosen}, {why}; not {others}"


def _listed(names: Sequence[str]) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _best(
    tracks: Sequence[AudioTrackInfo], evidence: dict[int, _Evidence]
) -> tuple[AudioTrackInfo, str]:
    """The track to take, and why."""

    def usual(track: AudioTrackInfo) -> tuple[bool, bool, int]:
        return track.is_aside, not track.is_default, track.number

    speaking = [track for track in tracks if evidence[track.number].speech_s]
    if speaking:
        own = [track for track in speaking if not track.is_aside] or speaking
        most = max(evidence[track.number].speech_s for track in own)
        tied = [track for track in own if evidence[track.number].speech_s >= _AS_MUCH * most]
        chosen = min(tied, key=usual)
        if len(tied) == 1:
            return chosen, "which has speech" if len(own) == 1 else "which has the most speech"
        which = "the default" if chosen.is_default else "the first"
        return chosen, f"{which} of {len(tied)} with speech"
    sounding = [track for track in tracks if evidence[track.number].sound_s]
    return min(sounding or tracks, key=usual), "without speech in any"


def choose_channels(path: Path, track: AudioTrackInfo) -> ChosenChannels:
    """The channels of a track in which there is speech, where there are more than two.

    The mean of all would bury a voice in one of them under what the others record: of eight
    channels, seven with noise as loud as the voice leave it 8 dB below. Each channel that is not
    silent is listened to. All are taken where one at most sounds, where all have speech, and where
    none has any.

    Args:
        path: The file.
        track: One of its tracks, as :func:`vavl.media.container.media_info` lists it.
    """
    count = track.channels or 0
    if count <= _USUAL_CHANNELS or not track.is_known:
        return ChosenChannels()
    with opened(path) as container:
        stretches = _stretches(container, [track.number], _STRETCH_S / 2, resampled_channels)
        channels = (dict(enumerate(found.get(track.number, ()))) for found in stretches)
        evidence = _heard(channels, range(count), _MOST_OF_CHANNELS_S / count)
    most = max(heard.speech_s for heard in evidence.values())
    chosen = tuple(c for c, heard in evidence.items() if most and heard.speech_s >= _SPEAKS * most)
    sounding = [channel for channel, heard in evidence.items() if heard.sound_s]
    if not chosen or len(chosen) == count or len(sounding) < 2:
        return ChosenChannels()
    numbers = _listed([str(channel + 1) for channel in chosen])
    return ChosenChannels(chosen, f"{count} channels: took those with speech ({numbers})")


def _listen(path: Path, tracks: Sequence[AudioTrackInfo]) -> dict[int, _Evidence]:
    """What is heard of each track by its number; nothing of one that cannot be decoded."""
    share_s = min(_MOST_S, _MOST_ALTOGETHER_S / len(tracks))
    stretch_s = _STRETCH_S if share_s >= 2 * _STRETCH_S else _STRETCH_S / 2
    numbers = [track.number for track in tracks]
    with opened(path) as container:
        return _heard(_stretches(container, numbers, stretch_s, resampled_blocks), numbers, share_s)


def _heard(
    stretches: Iterator[dict[int, NDArray[np.float32]]], sources: Sequence[int], share_s: float
) -> dict[int, _Evidence]:
    """What is heard of each source of sound, for as many seconds of each as it may take."""
    evidence = dict.fromkeys(sources, _Evidence())
    for waveforms in stretches:
        for source, waveform in waveforms.items():
            sound_s, speech_s = evidence[source]
            if sound_s < share_s and level_dbfs(waveform) >= SILENCE_DBFS:
                evidence[source] = _Evidence(
                    sound_s + len(waveform) / SAMPLING_RATE_HZ,
                    speech_s + len(only_speech(waveform)) / SAMPLING_RATE_HZ,
                )
        if all(heard.sound_s >= share_s for heard in evidence.values()):
            break
    return evidence


def _stretches(
    container: InputContainer, numbers: Sequence[int], stretch_s: float, blocks: _Blocks
) -> Iterator[dict[int, NDArray[np.float32]]]:
    """Stretches of all tracks side by side, in places spread over the file; ``(..., n)`` each."""
    import av

    length_s = (container.duration or 0) / 1e6
    start_s = (container.start_time or 0) / 1e6
    count = len(_PLACES)
    if length_s <= count * stretch_s:  # all of it, or what is known of it
        yield from _in_a_row(container, numbers, stretch_s, blocks, count)
        return
    for place in _PLACES:
        try:
            container.seek(int((start_s + place / count * length_s) * 1e6))
        except av.FFmpegError:
            yield from _in_a_row(container, numbers, stretch_s, blocks, count)
            return
        yield from _in_a_row(container, numbers, stretch_s, blocks, 1)


def _in_a_row(
    container: InputContainer,
    numbers: Sequence[int],
    stretch_s: float,
    blocks: _Blocks,
    count: int,
) -> Iterator[dict[int, NDArray[np.float32]]]:
    """Up to ``count`` stretches from where the container is, one after the other."""
    import av

    streams = {number: container.streams.audio[number - 1] for number in numbers}
    number_of = {stream.index: number for number, stream in streams.items()}
    most = round(stretch_s * SAMPLING_RATE_HZ)
    heard: dict[int, list[NDArray[np.float32]]] = {number: [] for number in numbers}
    resamplers: dict[int, AudioResampler] = {number: new_resampler() for number in numbers}
    first_s: float | None = None
    samples = 0
    try:
        for packet in container.demux(list(streams.values())):
            if packet.pts is None or packet.time_base is None:
                continue
            time_s = float(packet.pts * packet.time_base)
            first_s = time_s if first_s is None else first_s
            number = number_of[packet.stream_index]
            try:
                for frame in streams[number].decode(packet):
                    frame.pts = None
                    parts = list(blocks(resamplers[number], frame))
                    heard[number] += parts
                    samples += sum(part.shape[-1] for part in parts)
            except (av.FFmpegError, ValueError):
                continue  # of a damaged track counts what can be heard
            # Damaged time stamps may stand still.
            if time_s - first_s >= stretch_s or samples > 2 * len(heard) * most:
                yield _joined(heard)
                heard = {number: [] for number in numbers}
                first_s, samples, count = None, 0, count - 1
                if not count:
                    return
    except (av.FFmpegError, IndexError):
        pass  # the rest of the file cannot be read
    yield _joined(heard)


def _joined(heard: dict[int, list[NDArray[np.float32]]]) -> dict[int, NDArray[np.float32]]:
    """One after the other; what has no sound at all is left out."""
    return {n: np.concatenate(blocks, axis=-1) for n, blocks in heard.items() if blocks}
