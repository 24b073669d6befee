"""A made-up corpus for demonstrations and tests. Nobody speaks in it, nobody feels anything.

Voices come from a source-filter synthesiser, faces are trajectories of action units and drawings
that follow them, and all are drawn at random. What a model scores here says that the machinery
works, and nothing about people.

The modalities are made to need each other. The voice tells how much activation there is: angry and
happy, disgusted and afraid, neutral and sad sound alike. The face tells the kind of expression:
anger looks like disgust, fear like sadness, and happiness is a faint smile close to neutral. Each
pair is told apart by weaker cues, which part of the clips show falsely; some of these cues lie in
the order of events alone.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.synthetic_drawing import Look, draw_look, film
from vavl.data.corpora.synthetic_signals import (
    ACTION_UNITS,
    FRAME_RATE_HZ,
    ORDER_FIELDS,
    Face,
    FaceStyle,
    Voice,
    VoiceStyle,
    animate,
    draw_face,
    draw_syllables,
    draw_voice,
    synthesize,
    unit_vector,
)
from vavl.data.manifest import Manifest, Utterance
from vavl.errors import InputError, VavlError, all_problems
from vavl.media.writing import write_mp4, write_wav
from vavl.system.atomic import atomic_write, remove_leftovers
from vavl.system.processes import Failure, run_job
from vavl.system.progress import with_progress

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
RATERS = 5
"""Simulated raters, who vote for each clip."""
MISLED_RATERS = 0.6
"""Odds, against 1 for the true one, of voting for an emotion whose cues a clip shows entirely."""
GUESSING_RATERS = 0.03
"""Odds of voting for any emotion without a reason."""

# How hard the corpus is. With these values a logistic regression on the mean and the spread over
# time (C = 0.03), trained on 9 of 12 speakers with 24 clips each, finds 0.65 of the emotions from
# the voice (80 log-mel bands), 0.70 from the face and 0.89 from both (means over 12 seeds).


def _both_ways(pairs: dict[str, str]) -> dict[str, str]:
    return pairs | {second: first for first, second in pairs.items()}


SOUNDS_LIKE = _both_ways({"angry": "happy", "disgust": "fear", "neutral": "sad"})
"""Emotions whose voices are told apart by weaker cues only."""
LOOKS_LIKE = _both_ways({"angry": "disgust", "fear": "sad", "happy": "neutral"})
"""Emotions whose faces are told apart by weaker cues only; no pair is in both tables."""
VOICE_CONFUSION = (0.45, 2.3)
"""Beta distribution of the share of its cues that a clip's voice borrows from the emotion that
sounds alike. Larger shares are more misleading; more than a half misleads whoever listens."""
FACE_CONFUSION = (0.65, 2.0)
"""The same for the face and the emotion that looks alike."""
VOICE_SCATTER = 0.15
"""Standard deviation of the voice's cues from clip to clip, in units of VOICE_SCATTER_UNITS."""
FACE_SCATTER = 0.35
"""Standard deviation of the action units' intensities at the apex from clip to clip."""
APEX_SCATTER = 0.08
"""Standard deviation of the time of the apex from clip to clip, as a share of the clip."""
SPEAKER_SCATTER = 0.12
"""How differently speakers express the same emotion: standard deviation of the log strength."""
INTENSITY = {"normal": 0.85, "strong": 1.15}
"""Strength of the expression; the levels take turns."""

VOICE_STYLES = {
    "angry": VoiceStyle(4.0, 1.0, 2.4, -1.0, 1.2, 0.16, -4.0, 1.4, -4.0, -8.0, -1.2),
    "happy": VoiceStyle(6.5, 1.4, 1.0, 0.6, -0.4, 0.12, 9.0, 0.2, 4.0, 8.0, 1.2),
    "disgust": VoiceStyle(-2.0, 0.4, 0.6, -0.6, 1.4, -0.12, -6.0, 0.8, -4.0, -8.0, -1.0),
    "fear": VoiceStyle(3.0, 0.1, -0.3, 2.2, 0.4, 0.12, 2.0, -0.5, 4.0, 8.0, 1.0),
    "neutral": VoiceStyle(-0.5, -0.5, -0.8, -0.6, -0.5, 0.0, 3.0, 0.3, 0.0, 2.0, 0.0),
    "sad": VoiceStyle(-2.0, -1.4, -2.2, 1.0, 0.2, -0.2, -4.0, -0.8, -4.0, -8.0, -1.2),
}
VOICE_SCATTER_UNITS = VoiceStyle(1.6, 0.7, 0.5, 0.5, 0.6, 0.12, 2.0, 0.5, 2.5, 4.0, 0.6)

FACE_UNITS = {
    "angry": {"AU04": 2.0, "AU05": 0.7, "AU07": 1.7, "AU09": 0.5, "AU10": 0.6, "AU23": 1.4},
    "disgust": {"AU04": 1.6, "AU07": 1.5, "AU09": 1.5, "AU10": 1.5, "AU17": 0.8, "AU23": 0.4},
    "fear": {"AU01": 1.9, "AU02": 0.9, "AU04": 1.0, "AU05": 1.2, "AU20": 1.2, "AU15": 0.4},
    "sad": {"AU01": 1.7, "AU04": 1.1, "AU15": 1.3, "AU17": 1.0, "AU20": 0.4},
    "happy": {"AU06": 0.8, "AU12": 1.2, "AU25": 0.3},
    "neutral": {"AU12": 0.2, "AU14": 0.4},
}
# (apex, spread) as shares of the clip. Mirrored within a pair: the pooled course is the same.
FACE_COURSES = {
    "angry": (0.25, 0.25),
    "disgust": (0.75, 0.25),
    "fear": (0.25, 0.25),
    "sad": (0.75, 0.25),
    "happy": (0.70, 0.30),
    "neutral": (0.30, 0.30),
}

# Arousal, valence, dominance in [0, 1]; after the places of these words on the circumplex.
ATTRIBUTES = {
    "angry": (0.85, 0.15, 0.80),
    "disgust": (0.55, 0.15, 0.55),
    "fear": (0.75, 0.20, 0.20),
    "happy": (0.75, 0.90, 0.70),
    "neutral": (0.35, 0.55, 0.50),
    "sad": (0.20, 0.20, 0.25),
}
ATTRIBUTE_NOISE = 0.07

_LOOK, _SWAY = 0, 1
"""Streams of random numbers of their own, so that a corpus without videos is otherwise the same."""


@dataclass(frozen=True)
class _Speaker:
    name: str
    sex: str
    voice: Voice
    face: Face
    look: Look
    vocal_strength: dict[str, float]  # emotion -> how strongly the voice shows it
    facial_strength: dict[str, float]


def prepare_synthetic(
    out: Path,
    *,
    speakers: int = 12,
    clips_per_speaker: int = 24,
    seed: int = 0,
    video: bool = True,
    workers: int = 0,
    progress: bool = False,
) -> Manifest:
    """A synthetic corpus, for trying things out: voices and drawn faces made by rules.

    The same arguments give the same files, as far as numpy's arithmetic and, for videos, the
    encoders agree between platforms; a speaker and a clip stay the same when more of them are asked
    for.

    Args:
        out: Folder for ``manifest.parquet``, ``audio/<id>.wav`` (16 kHz, mono, 16 bit, 1.5 to 3 s),
            ``visual_features/<id>.npy`` (T, 17) float32 at 25 Hz, ``video/<id>.mp4`` (a drawn face
            in 160 x 160 pixels at 25 Hz, with the sound), and ``synthetic.json``, which names the
            columns.
        speakers: How many speakers, women and men by turns; at least 1.
        clips_per_speaker: How many clips of each; the six emotions take turns. At least 1.
        seed: Draws everything, >= 0.
        video: Whether to draw faces and write videos, which takes most of the time.
        workers: Processes that make clips; 0 makes them in this one. Where ``workers`` > 0, a
            script must keep its calls under ``if __name__ == "__main__":``.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The manifest: the intended emotion as category, votes of five simulated raters who also see
        and hear what misleads, and arousal, valence and dominance.

    Raises:
        InputError: A number is out of range.
        VavlError: A clip cannot be written, or a worker process died.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> manifest = prepare_synthetic(folder, speakers=2, clips_per_speaker=6, video=False)
        >>> len(manifest), manifest.categories, manifest[0].metadata["origin"]
        (12, ('angry', 'disgust', 'fear', 'happy', 'neutral', 'sad'), 'synthetic')
    """
    given = (
        ("speakers", speakers, 1),
        ("clips_per_speaker", clips_per_speaker, 1),
        ("seed", seed, 0),
        ("workers", workers, 0),
    )
    problems = [
        f"{name}: expected an integer >= {least}, got {value!r}"
        for name, value, least in given
        if not isinstance(value, int) or value < least
    ]
    if problems:
        raise InputError(all_problems("synthetic corpus", problems))
    out = Path(out)
    places = [(speaker, take) for speaker in range(speakers) for take in range(clips_per_speaker)]
    job = _ClipMaker(out, seed, video)
    utterances = []
    with closing(run_job(places, job, workers)) as made:
        for (speaker, take), utterance in with_progress(
            made, len(places), what="making", progress=progress
        ):
            if isinstance(utterance, Failure):
                raise VavlError(f"clip {take + 1} of speaker {speaker + 1} in {out}: {utterance}")
            utterances.append(utterance)
    for name in ("audio", "visual_features", "video"):
        # What workers of a killed run wrote last, who may have outlived it into this one.
        remove_leftovers(out / name)
    description = {
        "what": "synthetic voices and faces made by vavl; no person was recorded",
        "seed": seed,
        "visual_features": {"columns": ACTION_UNITS, "frame_rate_hz": FRAME_RATE_HZ},
    }
    with atomic_write(out / "synthetic.json") as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    manifest = Manifest(utterances, root=out)
    manifest.save(out / "manifest.parquet")
    return manifest


@dataclass(frozen=True)
class _ClipMaker:
    """Makes the files of one clip after another."""

    out: Path
    seed: int
    video: bool

    def load(self) -> None:
        pass

    def __call__(self, place: tuple[int, int]) -> Utterance:
        number, take = place
        speaker = _speaker(self.seed, number)
        utterance, sound, units = _clip(_generator(self.seed, number, take), speaker, take)
        name = utterance.utterance_id
        write_wav(self.out / "audio" / f"{name}.wav", sound)
        with atomic_write(self.out / "visual_features" / f"{name}.npy") as temporary:
            np.save(temporary, units)
        if not self.video:
            return utterance
        path = f"video/{name}.mp4"
        pictures = film(_generator(self.seed, number, take, _SWAY), speaker.look, units)
        write_mp4(self.out / path, pictures, sound, FRAME_RATE_HZ)
        return replace(utterance, video_path=path)


def _generator(seed: int, *place: int) -> np.random.Generator:
    """Random numbers of one speaker or clip, whatever else is drawn."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=place)))


def _speaker(seed: int, number: int) -> _Speaker:
    rng = _generator(seed, number)
    female = number % 2 == 0
    return _Speaker(
        name=f"speaker-{number + 1:02d}",
        sex="female" if female else "male",
        voice=draw_voice(rng, female=female),
        face=draw_face(rng),
        look=draw_look(_generator(seed, number, 0, _LOOK), female=female),
        vocal_strength={e: float(np.exp(rng.normal(0.0, SPEAKER_SCATTER))) for e in EMOTIONS},
        facial_strength={e: float(np.exp(rng.normal(0.0, SPEAKER_SCATTER))) for e in EMOTIONS},
    )


def _clip(
    rng: np.random.Generator, speaker: _Speaker, take: int
) -> tuple[Utterance, NDArray[np.float64], NDArray[np.float32]]:
    """Labels of a clip, its ``(N,)`` samples, and its ``(T, 17)`` action units."""
    emotion = EMOTIONS[take % len(EMOTIONS)]
    level = ("normal", "strong")[take // len(EMOTIONS) % 2]
    # The order of events misleads by itself: whoever follows it learns something more.
    voice_share, voice_order_share = rng.beta(*VOICE_CONFUSION, size=2)
    face_share, face_order_share = rng.beta(*FACE_CONFUSION, size=2)
    voice_strength = speaker.vocal_strength[emotion] * INTENSITY[level]
    voice_style = _voice_style(rng, emotion, voice_strength, voice_share, voice_order_share)
    face_strength = speaker.facial_strength[emotion] * INTENSITY[level]
    face_style = _face_style(rng, emotion, face_strength, face_share, face_order_share)
    syllables = draw_syllables(rng, speaker.voice, voice_style)
    sound = synthesize(rng, speaker.voice, voice_style, syllables)
    units = animate(rng, speaker.face, face_style, syllables)

    odds = dict.fromkeys(EMOTIONS, GUESSING_RATERS)
    odds[emotion] += 1.0
    odds[SOUNDS_LIKE[emotion]] += MISLED_RATERS * voice_share
    odds[LOOKS_LIKE[emotion]] += MISLED_RATERS * face_share
    weights = np.array(list(odds.values()))
    votes = rng.multinomial(RATERS, weights / weights.sum())
    noise = rng.normal(0.0, ATTRIBUTE_NOISE, 3)
    attributes = np.clip(np.array(ATTRIBUTES[emotion]) + noise, 0.0, 1.0)
    name = f"{speaker.name}-{emotion}-{take // len(EMOTIONS) + 1:02d}"
    utterance = Utterance(
        utterance_id=name,
        corpus="synthetic",
        speaker=speaker.name,
        audio_path=f"audio/{name}.wav",
        visual_features_path=f"visual_features/{name}.npy",
        category=emotion,
        votes={category: float(n) for category, n in zip(EMOTIONS, votes, strict=True)},
        attributes=dict(zip(("arousal", "valence", "dominance"), attributes.tolist(), strict=True)),
        metadata={"sex": speaker.sex, "intensity": level, "origin": "synthetic"},
    )
    return utterance, sound, units


def _voice_style(
    rng: np.random.Generator, emotion: str, strength: float, share: float, order_share: float
) -> VoiceStyle:
    """The voice of an emotion, with shares of the one that sounds alike, scattered."""
    borrowed = np.array([order_share if f in ORDER_FIELDS else share for f in VoiceStyle._fields])
    own, other = np.array(VOICE_STYLES[emotion]), np.array(VOICE_STYLES[SOUNDS_LIKE[emotion]])
    cues = strength * ((1 - borrowed) * own + borrowed * other)
    cues += VOICE_SCATTER * np.array(VOICE_SCATTER_UNITS) * rng.standard_normal(len(cues))
    return VoiceStyle(*cues.tolist())


def _face_style(
    rng: np.random.Generator, emotion: str, strength: float, share: float, order_share: float
) -> FaceStyle:
    """The face of an emotion, with shares of the one that looks alike, scattered."""
    other = LOOKS_LIKE[emotion]
    units = (1 - share) * unit_vector(FACE_UNITS[emotion]) + share * unit_vector(FACE_UNITS[other])
    units = strength * units + FACE_SCATTER * rng.standard_normal(len(units))
    course = np.array(FACE_COURSES[emotion]) * (1 - order_share)
    apex, spread = course + np.array(FACE_COURSES[other]) * order_share
    return FaceStyle(units, apex=float(apex + rng.normal(0.0, APEX_SCATTER)), spread=float(spread))
