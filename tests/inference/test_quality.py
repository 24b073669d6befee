"""Warnings: each where it belongs, and none for a clip that is well."""

from __future__ import annotations

import numpy as np

from vavl.faces.alignment import Face
from vavl.features.face_features import FaceStep
from vavl.inference.quality import Quality
from vavl.inference.windows import ClipStreams
from vavl.media.speech import AllSound

FACE = Face((0.0, 0.0, 8.0, 8.0), 1.0, np.zeros((5, 2), np.float32))


def step(
    time_s: float, face: Face | None = None, *, faces: int = 0, light: float = 0.5
) -> FaceStep:
    return FaceStep(time_s, np.zeros(2, np.float32), face, faces, light)


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
    quality = watched(2.0**-17, [step(k, faces=2 if k < 3 else 0, light=0.05) for k in range(10)])
    assert quality.face_share == 0
    assert quality.warnings == (
        "the sound is silence",
        "no face was found",
        "several people: the most prominent one is taken",
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
