"""Puts segments on trial: recordings composed of known sentences and pauses.

    python scripts/trial_segments.py --data DATA_FOLDER --out docs/results/people/segments.json

Sentences are those of the held-out actors of RAVDESS and of nEMO, each without what is more than
35 dB quieter than its loudest 10 ms at its beginning and end. A recording has six of one corpus,
with pauses of 0.5 to 3 s between them, in silence or in hiss of -60 dBFS.

Each sentence is matched with the segment that it overlaps most. A boundary is right within 0.2 s of
where the sentence begins or ends, by one of three truths:

voice    its first and last 10 ms within 35 dB of the loudest between 100 and 1000 Hz, where voices
         are and breaths are not; the voice activity has no part in it
placed   the ends of what was placed, which may be a breath
alone    where the same program cuts it alone: this only says whether the others move a cut

The label of a segment is compared with that of the sentence alone: with half a second of the
recording around it, and (clean) of silence, where there is no hiss in the sentence either. What is
written as SRT, WebVTT and RTTM is read back by pysubs2, webvtt-py and pyannote.

The length of a pause that ends a sentence was chosen on the actors who are not held out and on
other draws from nEMO, whose voices are the same as here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from compact_voices import HELD_OUT, clips_of
from numpy.random import Generator
from speech_conditions import Waveform, hiss, shaped
from trial_sounds import at_level

import vavl
from vavl.errors import MediaError
from vavl.inference.captions import CaptionFormat, captions
from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.system.atomic import atomic_write
from vavl.training.run_folder import git_revision
from vavl.types import Segment

SENTENCES = 6
"""In a recording."""
PAUSES_S = (0.5, 3.0)
BOUNDARY_S = 0.2
"""A boundary is right within this."""
NOISE_DBFS = -60.0
_TRIM_DB, _TRIM_FRAME = 35.0, SAMPLING_RATE_HZ // 100
_AROUND = SAMPLING_RATE_HZ // 2
"""Samples of silence around a sentence alone."""
_WRITTEN_S = 2e-3
"""Times are written in milliseconds, and RTTM has two of them for the end."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Recording:
    """A composed recording.

    Attributes:
        waveform: ``(N,)`` at 16 kHz.
        sentences: ``(n,)`` each, as they were placed.
        starts_s: Where each was placed, in seconds.
    """

    waveform: Waveform
    sentences: list[Waveform]
    starts_s: list[float]


def loud(waveform: Waveform) -> tuple[int, int]:
    """Where 10 ms are within 35 dB of the loudest: the first sample and the one after the last."""
    whole = len(waveform) // _TRIM_FRAME * _TRIM_FRAME
    frames = waveform[:whole].reshape(-1, _TRIM_FRAME)
    power = np.square(frames, dtype=np.float64).mean(1)
    found = np.flatnonzero(power >= power.max() * 10 ** (-_TRIM_DB / 10))
    return int(found[0]) * _TRIM_FRAME, int(found[-1] + 1) * _TRIM_FRAME


def trimmed(waveform: Waveform) -> Waveform:
    """Without the quiet beginning and end."""
    return waveform[slice(*loud(waveform))]


def voiced_s(sentence: Waveform) -> Span:
    """Beginning and end of the voice in a sentence, in seconds."""
    band = shaped(sentence, lambda hz: np.interp(hz, [50, 100, 1000, 1500], [0, 1, 1, 0]))
    first, stop = loud(band)
    return first / SAMPLING_RATE_HZ, stop / SAMPLING_RATE_HZ


def composed(sentences: Sequence[Waveform], rng: Generator, *, noisy: bool) -> Recording:
    """Sentences one after the other, with random pauses before, between and after them."""
    pauses = rng.uniform(*PAUSES_S, len(sentences) + 1)
    lengths = np.array([len(sentence) for sentence in sentences])
    gaps = np.round(pauses * SAMPLING_RATE_HZ).astype(int)
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    size = int(lengths.sum() + gaps.sum())
    waveform = np.zeros(size, np.float32)
    if noisy:
        waveform += at_level(hiss(size, rng), NOISE_DBFS)
    for start, sentence in zip(starts.tolist(), sentences, strict=True):
        waveform[start : start + len(sentence)] += sentence
    return Recording(waveform.clip(-1, 1), list(sentences), (starts / SAMPLING_RATE_HZ).tolist())


def matched(spans_s: Sequence[Span], segments: Sequence[Segment]) -> list[Segment | None]:
    """For each sentence the segment that it overlaps most; None where it overlaps none."""
    found: list[Segment | None] = []
    for first_s, stop_s in spans_s:
        overlaps = [min(stop_s, s.end_s) - max(first_s, s.start_s) for s in segments]
        best = int(np.argmax(overlaps)) if segments else 0
        found.append(segments[best] if segments and overlaps[best] > 0 else None)
    return found


def alone(recognizer: vavl.Recognizer, clip: Waveform) -> tuple[str | None, Span | None]:
    """Label, beginning and end of a sentence by itself; None where there is nothing to go by.

    Args:
        recognizer: Who predicts.
        clip: ``(N,)``, the sentence with half a second before and after it.
    """
    try:
        found = recognizer.predict(audio=clip, segments=True)
    except MediaError:
        return None, None
    first_s, stop_s = found.segments[0].start_s, found.segments[-1].end_s
    around_s = _AROUND / SAMPLING_RATE_HZ
    return found.label, (first_s - around_s, stop_s - around_s)


def read_back(segments: Sequence[Segment], form: str, folder: Path) -> list[Span]:
    """Beginning and end of segments as a library that is not ours reads them."""
    path = folder / f"clip.{form}"
    path.write_text(captions(segments, cast(CaptionFormat, form), "clip"), encoding="utf-8")
    return _READERS[form](path)


def _read_srt(path: Path) -> list[Span]:
    import pysubs2

    return [(cue.start / 1000, cue.end / 1000) for cue in pysubs2.load(str(path), format_="srt")]


def _read_vtt(path: Path) -> list[Span]:
    import webvtt

    def seconds(stamp: str) -> float:  # of its own it gives whole ones
        hours, minutes, rest = stamp.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)

    return [(seconds(cue.start), seconds(cue.end)) for cue in webvtt.read(str(path))]


def _read_rttm(path: Path) -> list[Span]:
    from pyannote.database.util import load_rttm

    turns = load_rttm(str(path)).get("clip")
    return [] if turns is None else [(turn.start, turn.end) for turn in turns.itersegments()]


_READERS: dict[str, Callable[[Path], list[Span]]] = {
    "srt": _read_srt,
    "vtt": _read_vtt,
    "rttm": _read_rttm,
}


def agrees(segments: Sequence[Segment], read: Sequence[Span]) -> bool:
    """Whether as many spans were read as were written, at the same times."""
    written = [(s.start_s, s.end_s) for s in segments if s.modality is not None]
    return len(written) == len(read) and bool(
        np.all(np.abs(np.array(written) - np.array(read)) <= _WRITTEN_S)
    )


def trial(
    recognizer: vavl.Recognizer, recordings: Sequence[Recording], folder: Path
) -> dict[str, Any]:
    """Counts what is right, and gives the errors of the boundaries in seconds."""
    errors_s: dict[str, list[tuple[float, float]]] = {"voice": [], "placed": [], "alone": []}
    counts = dict.fromkeys(
        (
            *("sentences", "segments", "matched", "one_to_one"),
            *("labels_equal", "labels_equal_clean"),
        ),
        0,
    )
    back = dict.fromkeys(_READERS, 0)
    for recording in recordings:
        found = recognizer.predict(audio=recording.waveform, segments=True).segments
        placed = [
            (start_s, start_s + len(sentence) / SAMPLING_RATE_HZ)
            for start_s, sentence in zip(recording.starts_s, recording.sentences, strict=True)
        ]
        pairs = matched(placed, found)
        counts["sentences"] += len(pairs)
        counts["segments"] += len(found)
        for sentence, start_s, segment in zip(
            recording.sentences, recording.starts_s, pairs, strict=True
        ):
            if segment is None:
                continue
            first = round(start_s * SAMPLING_RATE_HZ) - _AROUND
            cut_out = recording.waveform[first : first + len(sentence) + 2 * _AROUND]
            clean = np.pad(sentence, _AROUND)
            label, alone_s = alone(recognizer, cut_out)
            counts["matched"] += 1
            counts["one_to_one"] += pairs.count(segment) == 1
            counts["labels_equal"] += segment.label == label
            if not np.array_equal(clean, cut_out):
                label, _ = alone(recognizer, clean)
            counts["labels_equal_clean"] += segment.label == label
            truths = {
                "voice": voiced_s(sentence),
                "placed": (0.0, len(sentence) / SAMPLING_RATE_HZ),
                "alone": alone_s,
            }
            for truth, span_s in truths.items():
                if span_s is not None:
                    first_s, stop_s = (start_s + time_s for time_s in span_s)
                    errors_s[truth].append((segment.start_s - first_s, segment.end_s - stop_s))
        for form in back:
            back[form] += agrees(found, read_back(found, form, folder))
    right = {
        truth: float(np.sum(np.abs(errors) <= BOUNDARY_S)) / (2 * counts["sentences"])
        for truth, errors in errors_s.items()
    }
    return {
        "recordings": len(recordings),
        **counts,
        "boundaries_right": right,
        "labels_right": counts["labels_equal"] / counts["sentences"],
        "labels_right_clean": counts["labels_equal_clean"] / counts["sentences"],
        "start_error_s": _quantiles([start for start, _ in errors_s["voice"]]),
        "end_error_s": _quantiles([end for _, end in errors_s["voice"]]),
        "read_back": back,
    }


def _quantiles(errors_s: Sequence[float]) -> dict[str, float]:
    return {f"{q}%": round(float(np.percentile(errors_s, q)), 3) for q in (5, 25, 50, 75, 95)}


def recordings_of(
    corpus: str, data: Path, number: int, rng: Generator, *, noisy: bool
) -> list[Recording]:
    """Composed of sentences that are drawn without repetition; of RAVDESS from held-out actors."""
    clips = [clip for clip in clips_of(corpus, data) if clip.fold in (HELD_OUT, -1)]
    drawn = rng.permutation(len(clips))[: number * SENTENCES].tolist()
    edges = range(0, len(drawn) + 1, SENTENCES)
    return [
        composed([trimmed(read_audio(clips[k].path)) for k in drawn[a:b]], rng, noisy=noisy)
        for a, b in pairwise(edges)
    ]


def main() -> None:
    """Runs the trial and writes its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with ravdess and speech")
    parser.add_argument("--recordings", type=int, default=4, help="of each corpus and background")
    parser.add_argument("--model", default=None, help="as for vavl predict")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recognizer = vavl.load(options.model)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (corpus, noisy) in enumerate(
            (corpus, noisy) for corpus in ("ravdess", "nemo") for noisy in (False, True)
        ):
            rng = np.random.default_rng([options.seed, number])
            recordings = recordings_of(corpus, options.data, options.recordings, rng, noisy=noisy)
            name = f"{corpus}, {'hiss' if noisy else 'silence'}"
            results[name] = trial(recognizer, recordings, Path(folder))
            print(name, json.dumps(results[name]), flush=True)
    sentences = sum(part["sentences"] for part in results.values())
    total = {
        "sentences": sentences,
        "boundaries_right": {
            truth: sum(r["boundaries_right"][truth] * r["sentences"] for r in results.values())
            / sentences
            for truth in ("voice", "placed", "alone")
        },
        "labels_right": sum(r["labels_equal"] for r in results.values()) / sentences,
        "labels_right_clean": sum(r["labels_equal_clean"] for r in results.values()) / sentences,
    }
    print(json.dumps(total))
    content = {
        "seed": options.seed,
        "revision": git_revision(Path.cwd()),
        "boundary_s": BOUNDARY_S,
        "pauses_s": PAUSES_S,
        "total": total,
        "parts": results,
    }
    with atomic_write(options.out) as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
