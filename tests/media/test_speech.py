"""Voice activity: what is speech, whatever the level and however the sound comes in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import babble

from vavl.media.audio import read_audio
from vavl.media.speech import (
    _AROUND,
    FRAME,
    MARGIN,
    PAUSE,
    SHORTEST,
    STEP,
    Heard,
    SpeechDetector,
    _tidied,
    only_speech,
    speech_spans,
    spoken,
)

RATE = 16_000


def silence(duration_s: float) -> np.ndarray:
    return np.zeros(round(duration_s * RATE), np.float32)


def hiss(duration_s: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(round(duration_s * RATE))
    return (10 ** (-50 / 20) * noise).astype(np.float32)


def mask(waveform: np.ndarray) -> np.ndarray:
    found = np.zeros(len(waveform), bool)
    for first, stop in speech_spans(waveform):
        found[first:stop] = True
    return found


def in_blocks(waveform: np.ndarray, sizes: np.ndarray) -> Heard:
    detector = SpeechDetector()
    parts = [detector.add(block) for block in np.split(waveform, np.cumsum(sizes))]
    parts.append(detector.finish())
    return Heard.joined(parts)


def test_speech_is_found_where_it_is() -> None:
    spans = speech_spans(np.concatenate([silence(1), babble(2), silence(1.5), babble(1)]))
    np.testing.assert_allclose(np.array(spans) / RATE, [(1, 3), (4.5, 5.5)], atol=0.3)


def test_pauses_within_a_word_are_kept_and_longer_ones_are_not() -> None:
    def spans(pause_s: float) -> int:
        return len(speech_spans(np.concatenate([babble(1), silence(pause_s), babble(1, seed=1)])))

    assert (spans(0.1), spans(0.6)) == (1, 2)


@pytest.mark.parametrize("gain_db", [0, -20, -40])
def test_quiet_speech_is_found_like_loud_one(gain_db: float) -> None:
    sound = np.concatenate([silence(0.5), babble(2), silence(0.5)])
    louder = mask(sound)
    quieter = mask((sound * 10 ** (gain_db / 20)).astype(np.float32))
    assert louder.mean() > 0.5
    assert (louder != quieter).mean() < 0.05


@pytest.mark.parametrize("level_db", [-20, -50, -70])
def test_what_is_no_speech_is_left_out(level_db: float) -> None:
    times = np.arange(3 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * times) / k for k in (1, 2, 3))
    hiss = np.random.default_rng(0).standard_normal(len(times))
    for sound in (hum, hiss, np.ones(len(times)), (times % 0.5 < 1 / RATE) * 1.0):
        assert speech_spans((10 ** (level_db / 20) * sound).astype(np.float32)) == []


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 40_000])
def test_blocks_and_the_whole_agree(size: int) -> None:
    waveform = np.concatenate([silence(0.3), babble(2.5)])[:size] + np.float32(0.1)
    sizes = np.random.default_rng(1).integers(0, 3000, 12)
    heard = in_blocks(waveform, sizes)
    assert len(heard.samples) == len(heard.is_speech) == size
    np.testing.assert_array_equal(heard.is_speech, mask(waveform))
    np.testing.assert_array_equal(spoken(heard.samples, heard.is_speech), only_speech(waveform))


def test_a_sample_is_settled_within_its_latency() -> None:
    detector, settled = SpeechDetector(), 0
    for number, block in enumerate(np.split(babble(2), 200), start=1):
        settled += len(detector.add(block).samples)
        assert number * len(block) - settled <= SpeechDetector.latency_s * RATE
    assert SpeechDetector.latency_s < 0.3


def test_streams_do_not_hear_each_other() -> None:
    one, other = np.concatenate([silence(0.5), babble(1)]), babble(1.5, seed=3, pitch_hz=200)
    alone = in_blocks(one, np.full(4, 5000))
    detector, beside, parts = SpeechDetector(), SpeechDetector(), []
    for ours, theirs in zip(np.split(one, 4), np.split(other, 4), strict=True):
        parts.append(detector.add(ours).is_speech)
        beside.add(theirs)
    parts.append(detector.finish().is_speech)
    np.testing.assert_array_equal(np.concatenate(parts), alone.is_speech)


def test_a_constant_and_a_drift_are_taken_out() -> None:
    voice = babble(2)
    drift = 0.3 + 0.1 * np.sin(2 * np.pi * 0.5 * np.arange(len(voice)) / RATE)
    shifted = only_speech((voice + drift).astype(np.float32))
    assert len(shifted) == len(only_speech(voice))
    assert abs(shifted.mean()) < 1e-3
    assert np.corrcoef(shifted, only_speech(voice))[0, 1] > 0.99
    constant = SpeechDetector()
    constant.add(np.full(RATE, 0.5, np.float32))
    assert not constant.finish().samples.any()


def test_bursts_pauses_and_margins_in_frames() -> None:
    def tidied(*runs: int) -> list[int]:
        """Lengths of no speech, speech, no speech ... before and after."""
        frames = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        found = _tidied(np.pad(frames, _AROUND))
        edges = np.flatnonzero(np.diff(found)) + 1
        return [int(n) for n in np.diff([0, *edges, len(found)])]

    long = SHORTEST
    assert tidied(20, SHORTEST - 1, 20) == [20 + SHORTEST - 1 + 20]
    assert tidied(20, long, 20) == [20 - MARGIN, long + 2 * MARGIN, 20 - MARGIN]
    assert len(tidied(20, long, PAUSE, long, 20)) == 3
    assert len(tidied(20, long, PAUSE + 1, long, 20)) == 5
    assert tidied(0, long, 20) == [long + MARGIN, 20 - MARGIN]


def test_the_library_comes_with_the_first_sound_and_changes_no_threads() -> None:
    code = (
        "import sys, numpy as np, torch, vavl, vavl.features.whisper, vavl.inference.live\n"
        "from vavl.media.speech import SpeechDetector, only_speech\n"
        "torch.set_num_threads(2); detector = SpeechDetector()\n"
        "print('silero_vad' in sys.modules)\n"
        "only_speech(np.zeros(16000, np.float32))\n"
        "print('silero_vad' in sys.modules, torch.get_num_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "2"]
    assert not {"torchaudio", "torchcodec"} & set(sys.modules)


def test_gradients_and_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    only_speech(babble(0.5))
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("around", [silence, hiss])
@pytest.mark.parametrize("before_s", [0.001, 0.137, 3, 30])
def test_what_is_spoken_is_the_same_wherever_it_stands(
    around: Callable[[float], np.ndarray], before_s: float
) -> None:
    sentence = np.concatenate([silence(0.3), babble(2), silence(0.3)])
    alone = only_speech(sentence)
    found = only_speech(np.concatenate([around(before_s), sentence, around(1.7)]))
    assert len(alone) > 1.8 * RATE
    # What the high-pass makes of the end of a hiss is left in the sentence: -60 dB of it.
    np.testing.assert_allclose(found, alone, atol=1e-3 * np.abs(alone).max())


def test_spoken_is_loud_on_a_grid_through_the_loudest_sample() -> None:
    def sound(*runs: tuple[int, float]) -> np.ndarray:
        """Steps and their level in dB, from somewhere between two steps."""
        parts = [np.full(steps * STEP, 10 ** (db / 20)) for steps, db in runs]
        return np.concatenate([np.zeros(123), *parts]).astype(np.float32)

    def kept(waveform: np.ndarray, is_speech: np.ndarray | None = None) -> list[int]:
        """Levels of the steps that are left, in dB."""
        everything = np.ones(len(waveform), bool)
        found = spoken(waveform, everything if is_speech is None else is_speech)
        return [round(20 * np.log10(step[0])) for step in found.reshape(-1, STEP)]

    near = 4
    assert kept(sound((9, -40), (1, -19), (4, 0), (9, -21))) == (
        near * [-40] + [-19] + 4 * [0] + near * [-21]
    )
    for gap, left in ((2 * near, 2 * near), (2 * near + 1, 2 * near)):
        assert kept(sound((1, 0), (gap, -60), (1, 0))) == [0] + left * [-60] + [0]
    waveform = sound((2, 0), (2, -6))
    is_speech = np.zeros(len(waveform), bool)
    is_speech[123 + STEP :] = True
    assert kept(waveform, is_speech) == [0, -6, -6]
    assert kept(waveform, np.zeros(len(waveform), bool)) == []
    assert kept(waveform[:0]) == kept(waveform[:123]) == []


@pytest.mark.shared
def test_recorded_sentences_are_found_at_every_level(shared: Path) -> None:
    clips = sorted((shared / "data" / "ravdess" / "audio16k").glob("*.flac"))[::144]
    for clip in clips:
        waveform = read_audio(clip)
        found = mask(waveform)
        assert 1 < found.sum() / RATE < 4.5  # the sentences take about 2 s
        for gain_db in (-20, -40):
            quieter = mask((waveform * 10 ** (gain_db / 20)).astype(np.float32))
            assert (found != quieter).sum() / RATE < 0.4


@pytest.mark.shared
@pytest.mark.parametrize("clip", ["03-01-03-02-01-01-06", "03-01-03-02-02-02-06"])
def test_shrill_voices_are_found(shared: Path, clip: str) -> None:
    """A woman who rejoices; at its own speed, the network hears nobody."""
    waveform = read_audio(shared / "data" / "ravdess" / "audio16k" / f"{clip}.flac")
    assert mask(waveform).sum() / RATE > 0.5
