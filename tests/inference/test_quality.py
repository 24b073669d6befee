"""Warnings: each where it belongs, and none for a clip that is well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vavl.faces.alignment import Face
from vavl.features.face_features import DARK, FLAT, SMALL, UNREADABLE, FaceStep
from vavl.inference.quality import Quality
from vavl.inference.windows import ClipStreams
from vavl.media.speech import AllSound, Heard

FACE = Face((0.0, 0.0, 8.0, 8.0), 1.0, np.zeros((5, 2), np.float32))


def step(
    time_s: float,
    face: Face | None = None,
    *,
    faces: int = 0,
    light: float = 0.5,
    flaw: str | None = None,
) -> FaceStep:
    return FaceStep(time_s, np.zeros(2, np.float32), face, faces, light, flaw)


def watched(loudness: float | None, steps: list[FaceStep]) -> Quality:
    quality = Quality()
    swing = np.tile([1.0, -1.0], 50).astype(np.float32)
    audio = None if loudness is None else iter([AllSound().add(loudness * swing)])
    clip = quality.watch(ClipStreams(audio, iter(steps) if steps else None, 1.0))
    # All that is read goes through unchanged.
    assert list(clip.steps or ()) == steps
    assert [block.samples[0] for block in clip.audio or ()] == (
        [] if loudness is None else [loudness]
    )
    return quality


def test_warnings() -> None:
    quality = watched(2.0**-17, [step(k, faces=0, light=0.05) for k in range(10)])
    assert quality.face_share == 0
    assert quality.warnings == (
        "the sound is silence",
        "no face was found",
        "the picture is very dark",
    )


def test_a_clip_that_is_well_has_none() -> None:
    quality = watched(0.125, [step(k, FACE, faces=1) for k in range(10)])
    assert (quality.face_share, quality.warnings) == (1, ())
    assert watched(0.125, []).warnings == ()
    assert watched(0.125, []).face_share is None


def test_a_face_now_and_then_and_no_sound() -> None:
    quality = watched(None, [step(k, FACE if k < 4 else None, faces=1) for k in range(10)])
    assert quality.warnings == ("no sound", "a face in only 40% of the picture")


def test_faces_that_are_no_evidence_are_named() -> None:
    named = {
        SMALL: "the face is too small (8 px)",
        DARK: "the face is too dark",
        FLAT: "the face is without contrast",
        UNREADABLE: "the face cannot be read (turned away, upside down or covered)",
    }
    for flaw, words in named.items():
        quality = watched(0.125, [step(k, FACE, faces=1, flaw=flaw) for k in range(10)])
        assert (quality.face_share, quality.warnings) == (0, (words,))
        # Now and then is nothing to tell.
        seldom = [step(k, FACE, faces=1, flaw=flaw if k == 5 else None) for k in range(10)]
        assert watched(0.125, seldom).warnings == ()


def test_sound_that_is_no_evidence_is_named() -> None:
    def warnings(heard: Heard) -> tuple[str, ...]:
        quality = Quality(speech_only=True)
        assert list(quality.watch(ClipStreams(iter([heard]))).audio or ()) == [heard]
        return quality.warnings

    def sound(level: float, speech_s: float = 0.0, clipped: float = 0.0) -> Heard:
        times = np.arange(32_000) / 16_000
        samples = (0.3 + level * np.sin(700 * times)).astype(np.float32)
        return Heard(samples, times < speech_s, times < clipped * speech_s)

    assert warnings(sound(0.1, 1.5)) == ()
    assert warnings(sound(0.0)) == ("the sound is silence",)
    assert warnings(sound(0.1)) == ("no speech in the sound",)
    assert warnings(sound(0.1, 0.4)) == ("very little speech (0.4 s)",)
    assert warnings(sound(1e-4, 1.5)) == ("the speech is very quiet (-83 dBFS)",)
    assert warnings(sound(0.1, 1.5, clipped=0.02)) == ("the sound is clipped",)
    assert warnings(sound(0.1, 1.5, clipped=0.005)) == ()


def test_what_was_chosen_comes_first_and_a_turned_picture_is_named() -> None:
    quality = Quality()
    face = replace(FACE, quarter_turns=3)
    clip = ClipStreams(
        None, iter([step(k, face, faces=1) for k in range(4)]), 1.0, notes=("b", "a")
    )
    assert len(list(quality.watch(clip).steps or ())) == 4
    turned = "the picture is turned by 90 degrees counterclockwise: the face is turned back"
    assert quality.warnings == ("b", "a", "no sound", turned)
    assert quality.face_share == 1
