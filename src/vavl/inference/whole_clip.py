"""A prediction for a whole clip, from predictions for its parts, and one over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vavl.data.speakers import SpeakerProfile
from vavl.errors import MediaError
from vavl.features.face_features import FaceStep
from vavl.inference.answers import Answer, mean_answer
from vavl.inference.clip import ClipStreams
from vavl.inference.quality import Quality
from vavl.inference.windows import HOP_S, LONGEST_S, WINDOW_S, WindowCutter, cut_clip
from vavl.types import Prediction, TimedPrediction

if TYPE_CHECKING:
    from vavl.inference.recognizer import Recognizer


def predict_streams(
    recognizer: Recognizer,
    clip: ClipStreams,
    name: str,
    *,
    timeline: bool = False,
    on_step: Callable[[FaceStep], None] | None = None,
    profile: SpeakerProfile | None = None,
) -> Prediction:
    """Predicts from sound and picture as they come in; memory does not grow with the clip.

    Args:
        recognizer: What predicts each part.
        clip: Sound and picture, read once.
        name: What the prediction is called.
        timeline: Whether to predict over time as well.
        on_step: Called with each face as it is found.
        profile: Who is heard and seen, for this recogniser.

    Raises:
        MediaError: The clip cannot be read to its end, or no part of it has what the model needs.
    """
    sides = {"audio": clip.audio is not None, "video": clip.steps is not None}
    quality = Quality(**sides)
    cutters = [WindowCutter(LONGEST_S, LONGEST_S, **sides)]
    if timeline:
        cutters.append(WindowCutter(WINDOW_S, HOP_S, **sides))

    def watched(steps: Iterator[FaceStep]) -> Iterator[FaceStep]:
        for step in steps:
            if on_step is not None:
                on_step(step)
            yield quality.see(step)

    predictions: list[list[TimedPrediction]] = [[] for _ in cutters]
    for index, window in cut_clip(
        cutters,
        None if clip.audio is None else map(quality.hear, clip.audio),
        None if clip.steps is None else watched(clip.steps),
        clip.step_s,
    ):
        predictions[index].append(recognizer.predict_window(window, profile))
    parts = [
        Answer(part.modality, part.probabilities, part.attributes)
        for part in predictions[0]
        if part.modality is not None
    ]
    if not parts:
        found = ", ".join(quality.warnings) or "the clip has less than the model takes"
        raise MediaError(f"{name}: nothing to go by: {found}; expected {recognizer.needs}")
    whole = mean_answer(parts)
    assert whole.modality is not None
    return Prediction(
        name=name,
        modality=whole.modality,
        label=whole.label,
        probabilities=whole.probabilities,
        attributes=whole.attributes,
        duration_s=predictions[0][-1].end_s,
        face_share=quality.face_share,
        warnings=quality.warnings,
        timeline=tuple(predictions[1]) if timeline else (),
    )
